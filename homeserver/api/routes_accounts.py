"""Routes of accounts and devices, and of what the node says about itself."""

from __future__ import annotations

from homeserver.api import fallback_pages, health
from homeserver.api import shared_secret_registration as by_secret
from homeserver.api.client import (
    account_deactivation,
    admin,
    administrative_contact,
    capabilities,
    device_management,
    login,
    login_token,
    logout,
    openid,
    password_management,
    refresh,
    registration,
    registration_tokens,
    support,
    versions,
    wellknown,
    whoami,
)
from homeserver.api.router import Auth, Handler, Route
from homeserver.api.server import version as server_version
from homeserver.api.server import wellknown as server_wellknown

V1 = "/_matrix/client/v1"
V3 = "/_matrix/client/v3"


def _get(path: str, handler: Handler, auth: Auth, limit: str | None = None) -> Route:
    return Route(method="GET", path=path, handler=handler, auth=auth, limit=limit)


def _put(path: str, handler: Handler, auth: Auth) -> Route:
    return Route(method="PUT", path=path, handler=handler, auth=auth)


def _post(path: str, handler: Handler, auth: Auth, limit: str | None = None) -> Route:
    return Route(method="POST", path=path, handler=handler, auth=auth, limit=limit)


def _log_out(path: str, handler: Handler) -> Route:
    return Route(method="POST", path=path, handler=handler, auth=Auth.GUEST, while_locked=True)


DISCOVERY = (
    # Client-Server API › Server Discovery; Capabilities negotiation
    _get("/_matrix/client/versions", versions.get_versions, Auth.NONE),
    _get("/.well-known/matrix/client", wellknown.get_wellknown, Auth.NONE),
    _get("/.well-known/matrix/support", support.get_wellknown_support, Auth.NONE),
    _get(f"{V3}/capabilities", capabilities.get_capabilities, Auth.GUEST),
    # Server-Server API › Server discovery; Server implementation
    _get("/.well-known/matrix/server", server_wellknown.get_well_known, Auth.NONE),
    _get("/_matrix/federation/v1/version", server_version.get_version, Auth.NONE),
    # For load balancers
    _get("/health", health.get_health, Auth.NONE),
)
SESSIONS = (
    # Client Authentication › Legacy API › Login; the limits of POST /login are in `accounts.login`
    _get(f"{V3}/login", login.get_login_flows, Auth.NONE),
    _post(f"{V3}/login", login.login, Auth.NONE),
    _get("/_matrix/static/client/login/", fallback_pages.get_login_page, Auth.NONE),
    # User-Interactive Authentication API › Fallback
    _get(f"{V3}/auth/{{authType}}/fallback/web", fallback_pages.get_stage_page, Auth.NONE),
    _post(f"{V3}/auth/{{authType}}/fallback/web", fallback_pages.complete_stage, Auth.NONE),
    _post(f"{V1}/login/get_token", login_token.generate_login_token, Auth.USER, "user_data"),
    _post(f"{V3}/refresh", refresh.refresh, Auth.NONE),
    _log_out(f"{V3}/logout", logout.logout),
    _log_out(f"{V3}/logout/all", logout.logout_all),
)
REGISTRATION = (
    # Client Authentication › Legacy API › Account registration
    _post(f"{V3}/register", registration.register, Auth.NONE, "registration"),
    _get(f"{V3}/register/available", registration.check_username_availability, Auth.NONE, "registration"),
    _get(
        f"{V1}/register/m.login.registration_token/validity",
        registration_tokens.registration_token_validity,
        Auth.NONE,
        "registration",
    ),
    # Synapse's admin API › Shared-Secret Registration
    _get("/_synapse/admin/v1/register", by_secret.get_nonce, Auth.NONE),
    _post("/_synapse/admin/v1/register", by_secret.register_by_secret, Auth.NONE),
)
ACCOUNTS = (
    # Client Authentication › Legacy API › Account management; Current account information
    _get(f"{V3}/account/whoami", whoami.get_token_owner, Auth.GUEST),
    _post(f"{V3}/account/password", password_management.change_password, Auth.USER, "user_data"),
    _post(f"{V3}/account/deactivate", account_deactivation.deactivate_account, Auth.USER, "user_data"),
    _get(f"{V3}/account/3pid", administrative_contact.get_account3_pids, Auth.USER),
    # Modules › OpenID
    _post(f"{V3}/user/{{userId}}/openid/request_token", openid.request_open_id_token, Auth.USER, "user_data"),
    # Modules › Device Management
    _get(f"{V3}/devices", device_management.get_devices, Auth.GUEST),
    _get(f"{V3}/devices/{{deviceId}}", device_management.get_device, Auth.GUEST),
    _put(f"{V3}/devices/{{deviceId}}", device_management.update_device, Auth.GUEST),
    Route(
        method="DELETE",
        path=f"{V3}/devices/{{deviceId}}",
        handler=device_management.delete_device,
        auth=Auth.USER,
        limit="user_data",
    ),
    _post(f"{V3}/delete_devices", device_management.delete_devices, Auth.USER, "user_data"),
)
MODERATION = (
    # Modules › Server Administration. Users may look themselves up.
    _get(f"{V3}/admin/whois/{{userId}}", admin.get_who_is, Auth.USER),
    _get(f"{V1}/admin/suspend/{{userId}}", admin.get_admin_suspend_user, Auth.ADMIN),
    _put(f"{V1}/admin/suspend/{{userId}}", admin.set_admin_suspend_user, Auth.ADMIN),
    _get(f"{V1}/admin/lock/{{userId}}", admin.get_admin_lock_user, Auth.ADMIN),
    _put(f"{V1}/admin/lock/{{userId}}", admin.set_admin_lock_user, Auth.ADMIN),
)
ROUTES: tuple[Route, ...] = (*DISCOVERY, *SESSIONS, *REGISTRATION, *ACCOUNTS, *MODERATION)
