"""Signatures of webhooks: made by the service, checked by who receives them. Standard library only.

The scheme is Standard Webhooks (standardwebhooks.com), so its libraries in other languages check
them too: HMAC-SHA-256 over ``<id>.<timestamp>.<body>`` with the bytes behind ``whsec_``.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Mapping

ID_HEADER = "webhook-id"  # of the delivery: the same on every try
TIME_HEADER = "webhook-timestamp"  # s since 1970 of this try
SIGNATURE_HEADER = "webhook-signature"  # "v1,<base64>", several parted by blanks
SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret, but what one begins with
TOLERANCE = 300  # s that the sender's clock and the receiver's may differ, replays included


class SignatureError(Exception):
    """A delivery that must not be believed; the text says why, for a log."""


def sign(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``. Raises ``ValueError`` for a secret that is none."""
    content = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.digest(_key(secret), content, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
    tolerance: float = TOLERANCE,
) -> str:
    """Return the delivery's id if ``body``, exactly as received, is from who holds ``secret``.

    ``headers`` are looked up without regard to case. Raises :class:`SignatureError` for a header
    that is missing, a signature that does not fit, or a time more than ``tolerance`` seconds away
    from ``now`` (an old delivery that somebody sends again). Compare the id with those already
    worked on: a delivery may come twice.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    delivery_id, stated = sent.get(ID_HEADER), sent.get(TIME_HEADER)
    signatures = sent.get(SIGNATURE_HEADER)
    if not delivery_id or not stated or not signatures:
        raise SignatureError("a header is missing")
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 12):
        raise SignatureError("the timestamp is no number of seconds")
    expected = sign(secret, delivery_id, int(stated), body).encode()
    given = [one.encode() for one in signatures.split()]
    if not any([hmac.compare_digest(one, expected) for one in given]):  # noqa: C419 - all, always
        raise SignatureError("the signature does not fit the body")
    if abs((time.time() if now is None else now) - int(stated)) > tolerance:
        raise SignatureError("the timestamp is too far from now")
    return delivery_id


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a secret is whsec_ and base64") from error
