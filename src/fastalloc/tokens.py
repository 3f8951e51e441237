"""Tokens that force one request to be recorded closely: signed, and good for a while only.

    X-Force-Memory-Profile: v1.<expiry>.<route>.<signature>

Made by `fastalloc token`, checked by the middlewares. The expiry is in seconds since 1970, the route
(which may be empty: any) and the signature are base64. The signature is HMAC-SHA256 over all before
it, under the option `token_secret`. Whoever has a token may use it again until it expires.
"""

from __future__ import annotations

import time

VERSION = "v1"
MAX_CHARACTERS = 512
MAX_MINUTES = 24 * 60
_PURPOSE = b"fastalloc force "  # the secret may sign other things elsewhere


def make(secret: str, route: str = "", minutes: float = 15, now: float | None = None) -> str:
    """A token for requests of `route` ("GET /orders/{id}/", or without the method; "": any)."""
    expires = int((time.time() if now is None else now) + minutes * 60)
    signed = f"{VERSION}.{expires}.{_encoded(route.encode())}"
    return f"{signed}.{_encoded(_signature(secret, signed))}"


def check(token: str, secret: str, now: float | None = None) -> str | None:
    """The route that a token is good for, "" for any; None: it is forged, expired or no token.

    Takes the same time wherever the signature differs. About 5 us.
    """
    if not secret or len(token) > MAX_CHARACTERS or not token.isascii():
        return None
    signed, _, signature = token.rpartition(".")
    parts = signed.split(".")
    if len(parts) != 3 or parts[0] != VERSION:
        return None
    import hmac

    if not hmac.compare_digest(signature, _encoded(_signature(secret, signed))):
        return None
    if int(parts[1]) <= (time.time() if now is None else now):
        return None
    return _decoded(parts[2]).decode()


def _signature(secret: str, signed: str) -> bytes:
    import hmac

    return hmac.digest(secret.encode(), _PURPOSE + signed.encode(), "sha256")


def _encoded(content: bytes) -> str:
    import base64

    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
