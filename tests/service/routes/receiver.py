"""A receiver of webhooks that answers as it is told."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def findings(self) -> list[str]:
        """The ids of the findings it carries."""
        return [row["finding_id"] for row in msgspec.json.decode(self.body)["findings"]]


@dataclass
class Receiver:
    """Answers 200 unless ``answers`` says else: (status, headers), or a word.

    ``hang`` keeps the caller waiting, ``drip`` sends a byte of the answer now and then, ``cut``
    closes the connection without an answer.
    """

    port: int = 0
    answers: deque[Any] = field(default_factory=deque)
    requests: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self.port}/hook"

    def wait(self, count: int, seconds: float = 15.0) -> list[Received]:
        """Return the requests once there are ``count``."""
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.requests) >= count, seconds)
            assert enough, f"{len(self.requests)} requests of {count} came"
            return list(self.requests)

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Listen; on the same port as before where it listened before."""
        self.over.clear()
        server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with receiver.changed:
                answer = receiver.answers.popleft() if receiver.answers else (200, {})
                receiver.requests.append(Received(self.path, dict(self.headers.items()), body))
                receiver.changed.notify_all()
            if answer == "hang":
                receiver.over.wait(20)
                self.close_connection = True
            elif answer == "cut":
                self.close_connection = True
            elif answer == "drip":
                self._drip()
            else:
                status, headers = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

        def _drip(self) -> None:
            self.close_connection = True
            ends = time.monotonic() + 20
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while time.monotonic() < ends and not receiver.over.wait(0.02):
                    self.wfile.write(b"x")
            except OSError:
                return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return

    return Handler
