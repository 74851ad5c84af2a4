"""Push rules. Source: pushrules.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver import push_rules as rules
from homeserver.api.request import Request
from homeserver.api.response import empty_response, json_response


async def get_push_rules(request: Request) -> web.Response:
    """GET /pushrules/: `getPushRules`."""
    user_id = request.requester.user_id
    rule_set = await request.services.push_rules.rule_set(user_id)
    return json_response(rule_set.to_api(user_id))


async def get_push_rules_global(request: Request) -> web.Response:
    """GET /pushrules/global/: `getPushRulesGlobal`."""
    user_id = request.requester.user_id
    rule_set = await request.services.push_rules.rule_set(user_id)
    return json_response(rule_set.to_api(user_id)["global"])


async def get_push_rule(request: Request) -> web.Response:
    """GET /pushrules/global/{kind}/{ruleId}: `getPushRule`."""
    user_id = request.requester.user_id
    rule_set = await request.services.push_rules.rule_set(user_id)
    return json_response(rules.get_rule(rule_set, user_id, request.params["kind"], request.params["ruleId"]))


async def set_push_rule(request: Request) -> web.Response:
    """PUT /pushrules/global/{kind}/{ruleId}: `setPushRule`."""
    body = await request.json()
    before, after = request.query("before"), request.query("after")
    kind, rule_id = request.params["kind"], request.params["ruleId"]
    await request.services.push_rules.edit(
        request.requester,
        lambda rule_set: rules.put_rule(rule_set, kind, rule_id, body, before=before, after=after),
    )
    return empty_response()


async def delete_push_rule(request: Request) -> web.Response:
    """DELETE /pushrules/global/{kind}/{ruleId}: `deletePushRule`."""
    kind, rule_id = request.params["kind"], request.params["ruleId"]
    await request.services.push_rules.edit(
        request.requester, lambda rule_set: rules.delete_rule(rule_set, kind, rule_id)
    )
    return empty_response()


async def is_push_rule_enabled(request: Request) -> web.Response:
    """GET /pushrules/global/{kind}/{ruleId}/enabled: `isPushRuleEnabled`."""
    rule_set = await request.services.push_rules.rule_set(request.requester.user_id)
    return json_response(rules.get_enabled(rule_set, request.params["kind"], request.params["ruleId"]))


async def set_push_rule_enabled(request: Request) -> web.Response:
    """PUT /pushrules/global/{kind}/{ruleId}/enabled: `setPushRuleEnabled`."""
    body = await request.json()
    kind, rule_id = request.params["kind"], request.params["ruleId"]
    await request.services.push_rules.edit(
        request.requester, lambda rule_set: rules.set_enabled(rule_set, kind, rule_id, body)
    )
    return empty_response()


async def get_push_rule_actions(request: Request) -> web.Response:
    """GET /pushrules/global/{kind}/{ruleId}/actions: `getPushRuleActions`."""
    rule_set = await request.services.push_rules.rule_set(request.requester.user_id)
    return json_response(rules.get_actions(rule_set, request.params["kind"], request.params["ruleId"]))


async def set_push_rule_actions(request: Request) -> web.Response:
    """PUT /pushrules/global/{kind}/{ruleId}/actions: `setPushRuleActions`."""
    body = await request.json()
    kind, rule_id = request.params["kind"], request.params["ruleId"]
    await request.services.push_rules.edit(
        request.requester, lambda rule_set: rules.set_actions(rule_set, kind, rule_id, body)
    )
    return empty_response()
