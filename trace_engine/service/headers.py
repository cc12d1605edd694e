"""Security headers of every answer, pages and data alike.

Pages load scripts and styles from this service only, and none inline; nothing may frame them. No
CORS header is ever sent, so a page of another origin cannot read answers. Data are not to be kept
by caches between caller and service, unless a route says otherwise.
"""

from __future__ import annotations

from collections.abc import MutableSequence

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_NO_STORE = (b"cache-control", b"no-store")
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")


def add(headers: MutableSequence[tuple[bytes, bytes]], *, tls: bool) -> None:
    """Add what is missing to the ``headers`` of an answer (ASGI: lower-case names)."""
    present = {name.lower() for name, _ in headers}
    headers.extend(pair for pair in _ALWAYS if pair[0] not in present)
    if _NO_STORE[0] not in present:
        headers.append(_NO_STORE)
    if tls:
        headers.append(_STRICT_TRANSPORT)
