"""Unpadded Base64. Source: Appendices, "Unpadded Base64"."""

from __future__ import annotations

import base64
import binascii

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def encode_base64(data: bytes) -> str:
    """Standard alphabet, no padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


def encode_base64_url(data: bytes) -> str:
    """URL-safe alphabet (``-`` and ``_``), no padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Read Base64 of either alphabet, with or without padding. Raises ValueError on anything else.

    "implementations SHOULD accept input with or without padding"; servers in use accept the
    URL-safe alphabet for hashes, keys and signatures too, so refusing it would split rooms.
    """
    data = text.rstrip("=").encode("ascii").translate(_FROM_URL_SAFE)
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
