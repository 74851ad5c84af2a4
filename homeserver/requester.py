"""Who makes a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """The account and device behind an access token.

    `user_nid` and `device_nid` are the storage's numbers for the user and the device; `token_nid`
    that of the access token. Guests have `is_guest`; `is_suspended` leaves reading and leaving.
    """

    user_id: str
    user_nid: int
    device_id: str
    device_nid: int
    token_nid: int
    is_guest: bool = False
    is_admin: bool = False
    is_suspended: bool = False
