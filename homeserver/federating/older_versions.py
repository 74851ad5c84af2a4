"""Requests that have two versions: the newer one, and the older one where a server does not know it.

Source: Server-Server API, "Joining Rooms", "Inviting to a room", "Leaving Rooms (Rejecting Invites)".
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.canonical import JsonObject
from federation.transport.client import FederationClient, Query, path_of
from federation.transport.errors import Refused

PATH = "/_matrix/federation/{version}/{operation}/{{}}/{{}}"
DEFAULT_BYTES_MAX = 1024 * 1024


async def put_event(
    client: FederationClient,
    server: str,
    operation: str,
    room_id: str,
    event_id: str,
    body: JsonObject,
    older_body: JsonObject | None,
    *,
    query: Query | None = None,
    unread_lists: Sequence[str] = (),
    timeout_s: float,
    response_bytes_max: int = DEFAULT_BYTES_MAX,
) -> JsonObject:
    """The answer to `send_join`, `send_leave` or `invite` of version 2, else of version 1 (``older_body``).

    ``query`` and ``unread_lists`` (see `FederationClient.request`) are for version 2. Without ``older_body``
    there is no older way. Raises RequestFailed.
    """
    try:
        return await client.request(
            server,
            "PUT",
            path_of(PATH.format(version="v2", operation=operation), room_id, event_id),
            query,
            body=body,
            despite_backoff=True,
            unread_lists=unread_lists,
            timeout_s=timeout_s,
            response_bytes_max=response_bytes_max,
        )
    except Refused as failure:
        if older_body is None or not is_unknown_endpoint(failure):
            raise
    return await client.request(
        server,
        "PUT",
        path_of(PATH.format(version="v1", operation=operation), room_id, event_id),
        body=older_body,
        despite_backoff=True,
        behind_status=True,
        timeout_s=timeout_s,
        response_bytes_max=response_bytes_max,
    )


def is_unknown_endpoint(failure: Refused) -> bool:
    """Whether a server does not know the endpoint: older ones say so without an errcode."""
    return failure.status in (400, 404, 405) and (
        failure.errcode == "M_UNRECOGNIZED" or (failure.status == 404 and not failure.errcode)
    )
