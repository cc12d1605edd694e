"""Who may do what: API keys, roles, and the dependency that asks for them.

A key is ``te_<id>_<secret>``: the id (12 hex digits) names the row, the secret is 256 random bits
as base64url, shown once. Only HMAC-SHA-256 of the secret under the key's own salt is stored; with
256 random bits there is nothing that a slow hash would protect. An unknown id is compared too, with
a salt of no key, so that time says nothing of what exists.

Without any key the service is *open*: everybody is admin. ``serve`` allows that on loopback only.
Keys may be added while it runs; the first one closes the door within ``CACHE_SECONDS``.

Events must be taken while the database is away, so a key that was good when the database was last
heard stays good for ``KEPT_SECONDS``, or until it expires. A key that was never known is then
neither right nor wrong: 503. When a key was last used is written aside, where nobody waits for it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request

from trace_engine.service.aside import Aside
from trace_engine.service.problems import Problem
from trace_engine.store.keys import KeyRecord

KEY_PREFIX = "te"  # codespell:ignore te
SECRET_BYTES = 32
CACHE_SECONDS = 5.0  # a revoked key is refused at latest after this long
USED_SECONDS = 60.0  # last use is written down at most this often
KEPT_SECONDS = 600.0  # a key last heard of this long ago is good while the store is away
ANSWER_SECONDS = 1.0  # a store that takes longer is away
MOST_CACHED = 4096

_KEY = re.compile(rf"{KEY_PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{1,128}})")
_logger = logging.getLogger("trace_engine.service.access")
_T = TypeVar("_T")

BEARER, HEADER = "Bearer", "X-API-Key"  # the security schemes of the OpenAPI
KEY_ABOUT = "te_...: a key of trace-engine keys add"


class Role(StrEnum):
    """What a key may be good for."""

    INGEST = "ingest"  # send events
    READ = "read"  # see findings, sellers, codes, the graph
    OFFICER = "officer"  # read, and decide: plans, outcomes, webhooks
    ADMIN = "admin"  # everything, closing days by hand and the audit log too


# What a role includes besides itself.
INCLUDES = {
    Role.INGEST: frozenset({Role.INGEST}),
    Role.READ: frozenset({Role.READ}),
    Role.OFFICER: frozenset({Role.OFFICER, Role.READ}),
    Role.ADMIN: frozenset(Role),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. ``key_id`` is empty where the service is open."""

    key_id: str
    name: str
    roles: frozenset[Role]

    def may(self, *roles: Role) -> bool:
        """Return whether this caller has at least one of ``roles``, by inclusion."""
        return any(role in INCLUDES[own] for own in self.roles for role in roles)


class Keys(Protocol):
    """What of the store of keys is used here."""

    def get(self, key_id: str) -> KeyRecord | None:
        """Return one key, valid or not."""

    def any(self) -> bool:
        """Return whether there ever was a key; revoked and expired ones count."""

    def used(self, key_id: str, at: datetime) -> None:
        """Write down that a key was used."""


OPEN = Caller("", "open", frozenset({Role.ADMIN}))
_NOBODY = KeyRecord("", "", (), secrets.token_bytes(16), b"\0" * 32, datetime.fromtimestamp(0, UTC))


def new_key(
    name: str,
    roles: frozenset[Role],
    *,
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[str, KeyRecord]:
    """Return a new key's text, to be shown once, and the record to be stored."""
    key_id = secrets.token_hex(6)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    salt = secrets.token_bytes(16)
    record = KeyRecord(
        key_id, name, tuple(sorted(roles)), salt, _digest(salt, secret), now, expires_at
    )
    return f"{KEY_PREFIX}_{key_id}_{secret}", record


def _digest(salt: bytes, secret: str) -> bytes:
    return hmac.digest(salt, secret.encode(), "sha256")


def _parts(text: str) -> tuple[str, str]:
    """Return (id, secret) of a key's text; two empty strings if it is none.

    Nothing else may reach the store: PostgreSQL refuses a text with a NUL.
    """
    match = _KEY.fullmatch(text)
    return ("", "") if match is None else (match[1], match[2])


class Doorkeeper:
    """Checks keys against the store, remembering rows for :data:`CACHE_SECONDS`. Thread-safe.

    The store is asked in a thread of its own and waited for :data:`ANSWER_SECONDS` at most. Once it
    failed nobody waits: it is tried again every :data:`CACHE_SECONDS` until it answers.
    """

    def __init__(
        self,
        keys: Keys,
        clock: Callable[[], float] = time.time,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[float, KeyRecord | None]] = {}
        self._used: dict[str, float] = {}
        self._closed = False
        self._looked = -CACHE_SECONDS
        self._away = False
        self._next_try = 0.0
        self._unwritten = False
        self._reader = Aside("keys")
        self._writer = Aside("keys-used")  # apart: a lock that is held must not stop the reader

    def is_open(self) -> bool:
        """Return whether no key exists, so that everybody is admin. Never turns back to open."""
        now = self._clock()
        if not self._closed and now - self._looked >= CACHE_SECONDS:
            try:
                self._ask(self._look)
            except _AwayError:
                if now - self._looked >= KEPT_SECONDS:
                    raise _unknown_now() from None
        return not self._closed

    @property
    def was_open(self) -> bool:
        """Whether the service was open when last asked; never touches the store."""
        return not self._closed

    def is_fresh(self, text: str | None) -> bool:
        """Return whether :meth:`check` of this text would not wait for the store."""
        if self._away:
            return True
        now = self._clock()
        if not self._closed and now - self._looked >= CACHE_SECONDS:
            return False
        if text is None or not self._closed:
            return True
        key_id, _ = _parts(text)
        known = self._rows.get(key_id)
        return not key_id or (known is not None and now - known[0] < CACHE_SECONDS)

    def check(self, text: str | None) -> Caller | None:
        """Return who holds the key ``text``; None if it is not valid, :data:`OPEN` if open.

        Raises a 503 :class:`Problem` while nobody can say.
        """
        if self.is_open():
            return OPEN
        if text is None:
            return None
        key_id, secret = _parts(text)
        record = self._row(key_id) if key_id else None
        against = record or _NOBODY
        right = hmac.compare_digest(_digest(against.salt, secret), against.digest)
        if record is None or not right:
            return None
        now = self._clock()
        if record.revoked_at is not None:
            return None
        if record.expires_at is not None and record.expires_at.timestamp() <= now:
            return None
        self._note_use(key_id, now)
        return Caller(key_id, record.name, frozenset(Role(role) for role in record.roles))

    def close(self, timeout: float = 2.0) -> None:
        """Write down the uses that wait, as far as that is possible in time (seconds)."""
        self._reader.close(timeout)
        self._writer.close(timeout)

    def _row(self, key_id: str) -> KeyRecord | None:
        known = self._rows.get(key_id)
        if known is not None and self._clock() - known[0] < CACHE_SECONDS:
            return known[1]
        try:
            return self._ask(lambda: self._fetch(key_id))
        except _AwayError:
            if known is None or known[1] is None or self._clock() - known[0] >= KEPT_SECONDS:
                raise _unknown_now() from None
            return known[1]

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Return the store's answer; raises :class:`_AwayError` if it gives none in time."""
        with self._lock:
            away, now = self._away, self._clock()
            if away and now < self._next_try:
                raise _AwayError
            self._next_try = now + CACHE_SECONDS
        answer: Future[_T] = self._reader.put(lambda: self._answered(question))
        if away:  # the answer is for who comes next
            raise _AwayError
        try:
            error = answer.exception(self._answer_seconds)
        except TimeoutError as late:
            answer.cancel()
            error = late
        if error is None:
            return answer.result()
        self._set_away(error)
        raise _AwayError

    def _answered(self, question: Callable[[], _T]) -> _T:
        answer = question()
        if self._away:
            _logger.info("keys can be looked up again")
            self._away = False
        return answer

    def _set_away(self, error: BaseException) -> None:
        with self._lock:
            first, self._away = not self._away, True
            self._next_try = self._clock() + CACHE_SECONDS
        if first:
            _logger.error(
                "keys cannot be looked up; those known stay good for a while", exc_info=error
            )

    def _look(self) -> None:
        self._closed = self._closed or self._keys.any()
        self._looked = self._clock()

    def _fetch(self, key_id: str) -> KeyRecord | None:
        record = self._keys.get(key_id)
        with self._lock:
            if len(self._rows) >= MOST_CACHED:  # guesses go first
                kept = {name: row for name, row in self._rows.items() if row[1] is not None}
                self._rows = kept if len(kept) < MOST_CACHED else {}
            self._rows[key_id] = (self._clock(), record)
        return record

    def _note_use(self, key_id: str, now: float) -> None:
        with self._lock:
            if now - self._used.get(key_id, 0.0) < USED_SECONDS:
                return
            self._used[key_id] = now
        self._writer.put(lambda: self._write_use(key_id, datetime.fromtimestamp(now, UTC)))

    def _write_use(self, key_id: str, at: datetime) -> None:
        try:
            self._keys.used(key_id, at)
        except Exception:  # the next use is written a minute later
            if not self._unwritten:
                _logger.exception("the last use of keys cannot be written")
            self._unwritten = True
        else:
            self._unwritten = False


class _AwayError(Exception):
    """The store of keys did not answer."""


def _unknown_now() -> Problem:
    return Problem(
        503,
        "unavailable",
        detail="the key cannot be checked now: the database does not answer",
        detail_zh="数据库无响应，暂时无法核对密钥",
        retry_after=CACHE_SECONDS,
    )


def key_in(request: HTTPConnection) -> str | None:
    """Return the key that a request carries, or None.

    ``Authorization: Bearer``, else ``X-API-Key``; for GET and HEAD also ``Authorization: Basic``
    with the key as password, so that a browser can show pages. Browsers add Basic to requests that
    other sites cause, which is why it never counts for requests that change something.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return value
    if scheme.lower() == "basic" and request.scope["method"] in ("GET", "HEAD"):
        try:
            decoded = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return value
        return decoded.partition(":")[2]
    return request.headers.get("x-api-key") or None


async def identify(request: HTTPConnection) -> Caller | None:
    """Return who makes ``request``, or None; kept with the request for the log."""
    text = key_in(request)
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    if doorkeeper.is_fresh(text):
        caller = doorkeeper.check(text)
    else:
        caller = await run_in_threadpool(doorkeeper.check, text)
    if caller is not None:
        request.scope.setdefault("state", {})["caller"] = caller
    return caller


def unauthenticated() -> Problem:
    """Return the answer to a request without a valid key."""
    return Problem(
        401, "unauthenticated", headers={"WWW-Authenticate": 'Bearer realm="trace-engine"'}
    )


class Requirement(SecurityBase):
    """A FastAPI dependency that gives the :class:`Caller` of a request if it has one of ``roles``.

    Answers 401 without a valid key, 403 without the role, 429 when the key (or the address, for
    wrong keys) asks too often. Itself what the OpenAPI names as security scheme, and so the only
    dependency that is solved: each one more costs a request 0.2 ms. The scheme it cannot name,
    ``X-API-Key``, is added by :func:`name_schemes`.
    """

    def __init__(self, roles: tuple[Role, ...]) -> None:
        self.roles = roles
        self.model = HTTPBearer(description=KEY_ABOUT)
        self.scheme_name = BEARER

    async def __call__(self, request: Request) -> Caller:
        """Return who asks; raises :class:`Problem`. Asked again, a request is not counted again."""
        state = request.scope.setdefault("state", {})
        caller: Caller | None = state.get("caller")  # the gate may know
        if caller is None or "counted" not in state:
            caller = await self._admit(request, caller)
            state["counted"] = True
        if not caller.may(*self.roles):
            needed = ", ".join(self.roles)
            raise Problem(
                403,
                "forbidden",
                detail=f"one of these roles is needed: {needed}",
                detail_zh=f"需要以下角色之一：{needed}",
            )
        return caller

    @staticmethod
    async def _admit(request: Request, caller: Caller | None) -> Caller:
        limiter: Any = request.app.state.limiter
        if caller is None:
            limiter.before(request)
            caller = await identify(request)
        if caller is None:
            limiter.refused(request)
            request.app.state.metrics.refused_keys.inc()
            raise unauthenticated()
        limiter.known(request, caller)
        return caller


def require(*roles: Role) -> Requirement:
    """Return a dependency: ``Depends(require(Role.READ))``; without roles, the administrator's."""
    return Requirement(roles or (Role.ADMIN,))


def name_schemes(document: dict[str, Any]) -> None:
    """Name ``X-API-Key`` in an OpenAPI document wherever a key may be sent as bearer."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    if BEARER not in schemes:
        return
    schemes[HEADER] = {"type": "apiKey", "in": "header", "name": HEADER, "description": KEY_ABOUT}
    for operations in document["paths"].values():
        for operation in operations.values():
            asked = operation.get("security", []) if isinstance(operation, dict) else []
            if {BEARER: []} in asked and {HEADER: []} not in asked:
                asked.append({HEADER: []})
