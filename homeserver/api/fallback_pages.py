"""Pages for clients that do not know a way to log in or to prove who somebody is: a browser does it for them.

Source: Client-Server API, "Fallback" of the User-Interactive Authentication API, "Login Fallback".
"""

from __future__ import annotations

import secrets
from html import escape
from string import Template
from urllib.parse import parse_qs

from aiohttp import web

from homeserver.accounts.user_interactive import DUMMY, PASSWORD, REGISTRATION_TOKEN
from homeserver.api.request import Request
from homeserver.errors import InvalidParam, MatrixError, NotFound

FIELDS_MAX = 10
# By stage, the field of `auth` that is asked for: its name, label and type of input.
FIELDS: dict[str, tuple[str, str, str] | None] = {
    PASSWORD: ("password", "Your password", "password"),
    REGISTRATION_TOKEN: ("token", "Registration token", "text"),
    DUMMY: None,
}

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style nonce="$nonce">
body { font-family: sans-serif; max-width: 24em; margin: 3em auto; padding: 0 1em; }
input, button { font: inherit; width: 100%; box-sizing: border-box; margin: .3em 0 1em; padding: .5em; }
</style>
</head>
<body>
<h1>$title</h1>
<p id="message" role="status">$message</p>
$body
<script nonce="$nonce">$script</script>
</body>
</html>
""")

_STAGE_FORM = Template("""<form method="post">
<input type="hidden" name="session" value="$session">
$field<button type="submit">Continue</button>
</form>""")
_STAGE_FIELD = Template("""<label for="field">$label</label>
<input id="field" name="$name" type="$type" required autofocus>
""")
# Word for word: "This page must use the following JavaScript when the authentication has been completed".
_STAGE_DONE = """
if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}
"""
_LOGIN_FORM = """<form id="login">
<label for="user">User name</label>
<input id="user" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>"""
_LOGIN_SCRIPT = """
const form = document.getElementById("login");
const message = document.getElementById("message");
form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wishes = Object.fromEntries(new URLSearchParams(location.search));
    if ("refresh_token" in wishes) wishes.refresh_token = wishes.refresh_token === "true";
    const response = await fetch("../../../client/v3/login", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
            ...wishes,
            type: "m.login.password",
            identifier: { type: "m.id.user", user: document.getElementById("user").value },
            password: document.getElementById("password").value,
        }),
    });
    const answer = await response.json();
    if (!response.ok) {
        message.textContent = answer.error;
        return;
    }
    form.hidden = true;
    message.textContent = "You are logged in: go back to your client.";
    if (window.matrixLogin && window.matrixLogin.onLogin) window.matrixLogin.onLogin(answer);
});
"""


async def get_login_page(request: Request) -> web.Response:
    """GET /_matrix/static/client/login/: logs in by password, and hands the answer to the client."""
    return _page("Log in", "", _LOGIN_FORM, _LOGIN_SCRIPT)


async def get_stage_page(request: Request) -> web.Response:
    """GET /auth/{authType}/fallback/web: a form for one stage of a session."""
    return _stage_page(request.params["authType"], request.query_required("session"))


async def complete_stage(request: Request) -> web.Response:
    """POST /auth/{authType}/fallback/web: what the form sends."""
    kind = request.params["authType"]
    form = await _form(request)
    session = form.pop("session", "")
    auth = {**form, "type": kind, "session": session}
    try:
        await request.services.user_interactive.attempt(session, auth, request.address)
    except MatrixError as failure:
        return _stage_page(kind, session, failure)
    return _page("Done", "Thank you: go back to your client.", "", _STAGE_DONE)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises InvalidParam, TooLarge."""
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=FIELDS_MAX)
    except ValueError as cause:
        raise InvalidParam("This is no form, or one of too many fields") from cause
    return {name: values[0] for name, values in fields.items()}


def _stage_page(kind: str, session: str, failure: MatrixError | None = None) -> web.Response:
    if kind not in FIELDS:
        raise NotFound("This server has no such authentication stage")
    field = FIELDS[kind]
    asked = ""
    if field is not None:
        name, label, input_type = field
        asked = _STAGE_FIELD.substitute(name=name, label=label, type=input_type)
    form = _STAGE_FORM.substitute(session=escape(session), field=asked)
    message, status = (escape(failure.message), failure.status) if failure else ("", 200)
    return _page("Confirm that it is you", message, form, "", status=status)


def _page(title: str, message: str, body: str, script: str, *, status: int = 200) -> web.Response:
    """A page that runs no script but its own, in no other page's frame."""
    nonce = secrets.token_urlsafe(16)
    text = _PAGE.substitute(title=title, message=message, body=body, script=script, nonce=nonce)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": "*",
    }
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)
