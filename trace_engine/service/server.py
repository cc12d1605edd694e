"""Listening: uvicorn with the guards that it lacks, and a graceful end on SIGTERM or SIGINT.

Guards: headers must arrive in time and within a size (before uvicorn builds a request of them), and
only so many connections may be open. What is refused here is a problem document too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from trace_engine.service import headers, problems
from trace_engine.service.problems import Problem
from trace_engine.service.settings import ServiceSettings

BACKLOG = 2048
_logger = logging.getLogger("trace_engine.service")


class GuardedProtocol(HttpToolsProtocol):
    """One connection, with a deadline and a size for the headers of each request."""

    settings: ServiceSettings  # of the one service in this process; set by `Server`

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.most_connections:
            self.refuse(
                Problem(
                    503,
                    "unavailable",
                    detail="too many connections",
                    detail_zh="连接过多",
                    retry_after=5,
                )
            )
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count bytes of headers, then parse."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # The address is counted too, and what one read brought of the body: hence the two limits.
        most = self.settings.most_header_bytes + self.settings.most_url_bytes
        if self._in_head and self._head_bytes > most and not self.transport.is_closing():
            self.refuse(Problem(431, "headers-too-large"))

    def on_message_begin(self) -> None:
        """Start the clock of a request's headers."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._in_head = False
        self._head_bytes = 0
        self._forget_deadline()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self.refuse(Problem(400, "bad-request", detail=msg))

    def refuse(self, problem: Problem) -> None:
        """Answer with ``problem`` and close, without asking the app."""
        if self.transport.is_closing():
            return
        body = msgspec.json.encode(problems.document(problem))
        fields = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((k.lower().encode(), v.encode()) for k, v in (problem.headers or {}).items()),
        ]
        headers.add(fields, tls=self.settings.tls_certificate is not None)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self.transport.write(b"HTTP/1.1 %d\r\n" % problem.status_code + head + b"\r\n" + body)
        self.transport.close()

    def _await_head(self) -> None:
        self._in_head = True
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.settings.header_seconds, self._too_slow)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._in_head:
            self.refuse(Problem(408, "request-timeout"))


class Server(uvicorn.Server):
    """uvicorn's server, which returns after a signal instead of raising it once more."""

    def __init__(self, app: FastAPI, settings: ServiceSettings) -> None:
        context = settings.tls_context()
        protocol = type("Protocol", (GuardedProtocol,), {"settings": settings})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                loop="uvloop",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,  # the gate writes its own, which knows the key
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                timeout_keep_alive=settings.keep_alive_seconds,
                timeout_graceful_shutdown=settings.stop_seconds,
                backlog=BACKLOG,
                ssl_context_factory=None if context is None else lambda *_: context,
                callback_notify=_watchdog,
                timeout_notify=10,
            )
        )
        self._app = app

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle SIGTERM and SIGINT while serving."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread gets signals: whoever runs us elsewhere stops us
            return
        kinds = (signal.SIGTERM, signal.SIGINT)
        before = {kind: signal.signal(kind, self.handle_exit) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: long-lived streams are told to end."""
        self._app.state.stopping.set()
        super().handle_exit(sig, frame)


def bind(settings: ServiceSettings) -> socket.socket:
    """Return a socket bound to the address of the settings, not yet listening.

    Raises ``OSError`` where the address is taken, unknown or not allowed.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def url_of(bound: socket.socket, settings: ServiceSettings) -> str:
    """Return the address to call, with the real port."""
    name, port = bound.getsockname()[:2]
    scheme = "http" if settings.tls_certificate is None else "https"
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def run(
    app: FastAPI, settings: ServiceSettings, bound: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve until a signal comes; ``ready`` is called once connections are taken."""
    server = Server(app, settings)

    async def serve() -> None:
        serving = asyncio.ensure_future(server.serve(sockets=[bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
            notify("READY=1")
        await serving
        notify("STOPPING=1")

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())


def notify(state: str) -> None:
    """Tell systemd (``Type=notify``) how the service is; nothing where there is no systemd."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), address)
    except OSError:
        _logger.warning("systemd could not be told", extra={"state": state})


async def _watchdog() -> None:
    notify("WATCHDOG=1")
