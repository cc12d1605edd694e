"""``trace-engine serve`` and ``keys`` as an operator meets them: real processes, real signals."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trace_engine.cli.root import run

ROOT = Path(__file__).resolve().parents[2]
WAIT = 120.0  # s: kernels may have to be compiled
EVENT = {
    "event_time": "2026-03-01 09:00:00",
    "event_type": "sale_shipment",
    "code": "81234567890123456789",
    "actor_id": "E1",
    "from_id": "E1",
    "to_id": "E2",
}


def environment() -> dict[str, str]:
    """Return the environment without settings of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRACE_ENGINE_")}
    cache = os.environ.get("TRACE_ENGINE_CACHE_DIR")
    return (
        kept
        | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        | ({"TRACE_ENGINE_CACHE_DIR": cache} if cache else {})
    )


class Process:
    """A service in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "trace_engine", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.log: list[str] = []
        assert self.popen.stderr is not None
        self._reader = threading.Thread(target=self.log.extend, args=(self.popen.stderr,))
        self._reader.start()
        watchdog = threading.Timer(WAIT, self.popen.kill)
        watchdog.start()
        assert self.popen.stdout is not None
        self.said = self.popen.stdout.readline()
        watchdog.cancel()

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        found = re.search(r"http://([\d.]+):(\d+)", self.said)
        assert found, (self.said, self.log)
        wire = http.client.HTTPConnection(found[1], int(found[2]), timeout=WAIT)
        if body is not None:
            headers = {"Content-Type": "application/json"} | headers
        wire.request(method, path, None if body is None else json.dumps(body), headers)
        answer = wire.getresponse()
        text = answer.read()
        wire.close()
        is_json = "json" in (answer.headers["content-type"] or "")
        return answer.status, dict(answer.headers), json.loads(text) if is_json else text.decode()

    def until_ready(self) -> None:
        """Wait until the service says that it is ready: kernels may have to be compiled first."""
        deadline = time.monotonic() + WAIT
        while self.call("GET", "/readyz")[0] != 200:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(WAIT)
        self._reader.join(WAIT)
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.popen.stdout.close()
        self.popen.stderr.close()
        return code


@contextmanager
def served(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
            process.stop()


def test_it_starts_takes_events_stops_and_starts_again_with_them(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with served("--data", data) as service:
        assert service.said.startswith("listening on http://127.0.0.1:")
        assert "every program on this machine may do everything" in "".join(service.log)
        assert service.call("GET", "/healthz")[0] == 200
        service.until_ready()
        status, _, receipt = service.call("POST", "/v1/events?wait=30", [EVENT])
        assert (status, receipt["accepted"]) == (200, 1), receipt
        status, headers, document = service.call("GET", "/openapi.json")
        assert status == 200
        assert {"/v1/events", "/v1/findings", "/v1/stream"} <= set(document["paths"])
        assert "script-src 'self'" in headers["content-security-policy"]
        assert service.stop() == 0
        lines = [json.loads(line) for line in service.log[1:]]
        assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")], lines
        assert [line for line in lines if line.get("path") == "/v1/events"]
    assert oct((tmp_path / "data").stat().st_mode & 0o777) == "0o700"
    with served("--data", data) as service:
        service.until_ready()
        told = service.call("GET", "/v1/status")[2]
        assert told["counts"]["rows"] == 1, told
        assert told["checkpoint_offset"] == receipt["offset"]
        assert service.stop() == 0


def test_with_keys_only_they_open_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tmp_path / "data")
    assert run(["keys", "add", "--data", data, "--name", "desk", "--role", "read"]) == 0
    key = capsys.readouterr().out.strip()
    with served("--data", data) as service:
        assert service.call("GET", "/v1/status")[0] == 401
        assert service.call("GET", "/v1/status", Authorization=f"Bearer {key}")[0] == 200
        assert service.call("POST", "/v1/events", [EVENT], **{"X-API-Key": key})[0] == 403
        assert "warning" not in "".join(service.log)
        assert run(["keys", "revoke", key.split("_")[1], "--data", data]) == 0
        assert service.stop() == 0
        everything = "".join(service.log)
        assert key.split("_", 2)[2] not in everything
        assert key.split("_")[1] in everything


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave settings out, and put back what a command that runs in here changes for its process."""
    for name in list(os.environ):
        if name.startswith("TRACE_ENGINE_") and name != "TRACE_ENGINE_CACHE_DIR":
            monkeypatch.delenv(name)
    root, interval = logging.getLogger(), sys.getswitchinterval()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    sys.setswitchinterval(interval)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must end with 2 and one line, and return that line."""
    assert run([*arguments, "--lang", "en"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "service.example"])
def test_it_does_not_listen_to_others_without_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    data = str(tmp_path / "data")
    line = refused(capsys, "serve", "--data", data, "--port", "0", "--host", host)
    assert "without keys" in line
    assert "trace-engine keys add" in line


def test_keys_that_ended_still_keep_the_door_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else revoking the last key would make everybody on the machine admin."""
    from trace_engine.service.keyring import opened
    from trace_engine.service.settings import ServiceSettings

    data = tmp_path / "data"
    run(["keys", "add", "--data", str(data), "--name", "a", "--role", "read"])
    key_id = capsys.readouterr().out.split("_")[1]
    run(["keys", "revoke", key_id, "--data", str(data)])
    with opened(ServiceSettings(data=data)) as (keys, _):
        assert keys.any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--tls-key", "k.pem"], "tls_certificate"),
        (["serve", "--lateness-days", "-1"], "--lateness-days"),
        (["serve", "--config", "none.toml"], "none.toml"),
        (["serve", "--registry", "no-such-folder"], "no-such-folder"),
        (["serve", "--policy", "no-such.toml"], "no-such.toml"),
        (["serve", "--database", "oracle://x/y"], "oracle"),
        (["keys", "revoke", "abc"], "abc"),
        (["keys", "add", "--name", "", "--role", "read"], "--name"),
        (["keys", "add", "--name", "a", "--role", "boss"], "boss"),
        (["keys", "add", "--name", "a", "--role", "read", "--expires", "soon"], "soon"),
        (["keys", "add", "--name", "a", "--role", "read", "--expires", "2001-01-01"], "past"),
        (["keys", "add", "--name", "a", "--role", "read", "--expires", "99999d"], ""),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "99999d" in arguments:  # far, but a day that exists
        assert run(arguments) == 0
        return
    port = ["--port", "0"] if arguments[0] == "serve" else []
    assert run([*arguments, *port, "--lang", "en"]) == 2
    lines = [
        x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: no keys")
    ]
    assert len(lines) == 1, lines
    assert said in lines[0]


def test_keys_are_not_made_in_a_database_that_the_service_does_not_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, database = tmp_path / "data", str(tmp_path / "findings.db")
    with served("--data", str(data), "--database", database) as service:
        service.until_ready()
        assert service.stop() == 0
    add = ["keys", "add", "--data", str(data), "--name", "desk", "--role", "read"]
    line = refused(capsys, *add)
    assert f"uses the database sqlite {database}" in line
    assert not (data / "trace-engine.sqlite3").exists()
    assert run([*add, "--lang", "zh"]) == 2
    assert "的服务使用数据库" in capsys.readouterr().err
    monkeypatch.setenv("TRACE_ENGINE_DATABASE", database)  # what the service's environment says
    assert run(add) == 0
    assert capsys.readouterr().out.startswith("te_")


def test_taken_port_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(["serve", "--data", str(tmp_path / "d"), "--port", port, "--lang", "en"]) == 2
    assert "in use" in capsys.readouterr().err.splitlines()[-1]


def test_keys_are_listed_without_what_they_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tmp_path / "data")
    for lang, state in (("en", "revoked"), ("zh", "已吊销")):
        assert run(["keys", "add", "--data", data, "--name", "x", "--role", "admin"]) == 0
        key = capsys.readouterr().out.strip()
        run(["keys", "revoke", key, "--data", data])  # the whole key is understood too
        assert run(["keys", "list", "--data", data, "--lang", lang]) == 0
        listed = capsys.readouterr().out
        assert key.split("_")[1] in listed
        assert key.split("_", 2)[2] not in listed
        assert state in listed
        for file in Path(data).iterdir():
            assert key.split("_", 2)[2].encode() not in file.read_bytes()


def test_what_is_done_with_keys_stands_in_the_audit_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    run(["keys", "add", "--data", str(data), "--name", "x", "--role", "read"])
    key_id = capsys.readouterr().out.split("_")[1]
    run(["keys", "revoke", key_id, "--data", str(data)])
    with sqlite3.connect(data / "trace-engine.sqlite3") as connection:
        rows = connection.execute("SELECT action, subject, name FROM audit ORDER BY number")
        found = rows.fetchall()
    connection.close()
    assert [(action, subject) for action, subject, _ in found] == [
        ("key.add", key_id),
        ("key.revoke", key_id),
    ]
    assert all(name.startswith("cli") for _, _, name in found)


def test_start_of_the_command_loads_no_service() -> None:
    code = (
        "import sys; from trace_engine.cli import run; run(['serve', '--help']);"
        "run(['keys', 'add', '--help']);"
        "print({'fastapi', 'pydantic', 'sqlalchemy', 'numpy', 'uvicorn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.splitlines()[-1] == "set()"
