"""Unpadded Base64. Source: Appendices, "Unpadded Base64"."""

from __future__ import annotations

import base64
import binascii


def encode_base64(data: bytes) -> str:
    """Standard alphabet, no padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


def encode_base64_url(data: bytes) -> str:
    """URL-safe alphabet (``-`` and ``_``), no padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Read standard Base64 with or without padding. Raises ValueError on anything else."""
    # Padding that is not needed is ignored in strict mode only if it completes a group, so strip it.
    data = text.rstrip("=").encode("ascii")
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
