"""What sends to the service in the load benchmark: processes, connections, requests at fixed times."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

from service_market import Market, arrow_body, ndjson_body

CONNECTIONS = 8
TYPES = {"arrow": "application/vnd.apache.arrow.stream", "ndjson": "application/x-ndjson"}
BODIES = {"arrow": arrow_body, "ndjson": ndjson_body}


class Sender:
    """One connection of a sender."""

    def __init__(self, port: int, form: str) -> None:
        self.form = form
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.refused = 0

    def send(self, body: bytes, wait: float = 0.0) -> dict[str, Any]:
        """Send a body until it is taken; waits where the service asks for it."""
        while True:
            self.connection.request(
                "POST", f"/v1/events?wait={wait}", body, {"Content-Type": TYPES[self.form]}
            )
            response = self.connection.getresponse()
            answer = response.read()
            if response.status == 200:
                found: dict[str, Any] = json.loads(answer)
                if found["rejected"]:
                    raise RuntimeError(f"rejected: {found['rejects'][:3]}")
                return found
            if response.status != 429:
                raise RuntimeError(f"{response.status}: {answer[:500]!r}")
            self.refused += 1
            time.sleep(float(response.headers["Retry-After"]))


def flood(port: int, form: str, market: Market, first: int, until: float, out: Queue[Any]) -> None:
    """Send request after request until a moment (``time.time``); tell how many, and the next."""
    sender = Sender(port, form)
    number = first
    while time.time() < until:
        sender.send(BODIES[form](market.request(number)))
        number += 1
    out.put((market.sender, number, sender.refused))


def pace(
    port: int, form: str, market: Market, first: int, seconds: float, rate: float, out: Queue[Any]
) -> None:
    """Send requests at fixed times by several connections; tell the time each took, in seconds.

    All bodies are made before, so that making them takes nothing from anybody.
    """
    bodies = [BODIES[form](market.request(first + k)) for k in range(int(seconds * rate))]
    numbers = iter(range(len(bodies)))
    turn = threading.Lock()
    took: list[float] = []
    out.put(None)  # ready
    begin = time.time() + 1.0

    def work() -> None:
        sender = Sender(port, form)
        while True:
            with turn:
                number = next(numbers, None)
            if number is None:
                return
            due = begin + number / rate
            time.sleep(max(0.0, due - time.time()))
            sender.send(bodies[number])
            took.append(time.time() - due)

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(took)


@contextlib.contextmanager
def processes(context: Any, target: Any, arguments: list[tuple[Any, ...]]) -> Iterator[list[Any]]:
    """Run processes; end those that are still there when the block is left."""
    started = [context.Process(target=target, args=one, daemon=True) for one in arguments]
    for process in started:
        process.start()
    try:
        yield started
    finally:
        for process in started:
            process.join(30)
            if process.is_alive():
                process.terminate()
