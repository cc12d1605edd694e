"""An app listening on a free local port, in a thread, and a reader of its streams."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` and give its address; end its streams and the server afterwards."""
    bound = socket.create_server(("127.0.0.1", 0))
    # What runs beside requests was started by the client of the test.
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    started = threading.Event()
    startup = server.startup

    async def tell(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = tell  # type: ignore[method-assign]
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        app.state.stopping.set()
        server.should_exit = True
        thread.join(20)
        bound.close()
        assert not thread.is_alive()


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what the server does after its last byte, which nothing tells."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


@dataclass(frozen=True)
class Message:
    """One message of a stream, or a comment with the id beside it."""

    event: str
    id: str
    data: Any
    comment: str


def messages(answer: httpx.Response) -> Iterator[Message]:
    """Yield the messages of a stream as they come."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name or "comment"] = value
            continue
        data = fields.get("data")
        yield Message(
            fields.get("event", ""),
            fields.get("id", ""),
            None if data is None else json.loads(data),
            fields.get("", fields.get("comment", "")),
        )
        fields = {}


@contextmanager
def listening(url: str, headers: dict[str, str], **query: Any) -> Iterator[Iterator[Message]]:
    """Open a stream and give its messages; the first, which says it is open, is taken off."""
    with httpx.Client(timeout=20) as client:
        asked: Any = {"headers": headers, "params": query}
        with client.stream("GET", f"{url}/v1/stream", **asked) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            found = messages(answer)
            assert next(found).comment == "open"
            yield found
