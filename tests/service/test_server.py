"""Listening: guards before a request exists, TLS, the real port, and how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import shlex
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.service.fakes import FakeHost, FakeKeys, settings
from trace_engine.service.app import create_app
from trace_engine.service.server import Server, bind, notify, url_of
from trace_engine.service.settings import ServiceSettings, SettingsError

WAIT = 20.0  # seconds that nothing here takes
OPENSSL = shlex.split(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    "-keyout key.pem -out cert.pem"
)


@contextmanager
def serving(given: ServiceSettings, **routes: Any) -> Iterator[tuple[str, int]]:
    """Serve on a free port of this machine and give (host, port)."""
    app = create_app(FakeHost(), given, keys=FakeKeys(), audit=lambda _: None, routes=())
    for path, function in routes.items():
        app.get(f"/{path}")(function)
    bound = bind(given)
    server = Server(app, given)
    address = bound.getsockname()[:2]
    ended: list[BaseException] = []
    up = threading.Event()

    async def serve() -> None:
        task = asyncio.ensure_future(server.serve(sockets=[bound]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        up.set()
        await task

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 (told by the main thread)
            ended.append(error)
            up.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(WAIT)
        assert not ended, ended
        yield address
    finally:
        server.should_exit = True
        thread.join(WAIT)
    assert not thread.is_alive()
    assert not ended


def exchange(address: tuple[str, int], *parts: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, read until the other side closes; return status, headers, body."""
    with socket.create_connection(address, timeout=WAIT) as wire:
        for part in parts:
            wire.sendall(part)
        got = b""
        while chunk := wire.recv(65_536):
            got += chunk
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def test_headers_that_never_end_are_given_up_in_time() -> None:
    with serving(settings(port=0, header_seconds=0.2)) as address:
        for begun in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b"):
            status, headers, body = exchange(address, begun)
            assert status == 408
            assert headers["content-type"] == "application/problem+json"
            assert json.loads(body)["type"] == "/problems/request-timeout"


def test_endless_headers_are_cut() -> None:
    given = settings(port=0, most_header_bytes=2048, most_url_bytes=512)
    with serving(given) as address:
        endless = b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(500))
        status, _, body = exchange(address, endless)
        assert status == 431
        assert json.loads(body)["type"] == "/problems/headers-too-large"


def test_what_is_not_http_gets_a_problem_document() -> None:
    with serving(settings(port=0)) as address:
        for wrong in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET http://[bad HTTP/1.1\r\n\r\n"):
            status, headers, body = exchange(address, wrong)
            assert status == 400
            assert headers["x-content-type-options"] == "nosniff"
            assert json.loads(body)["title_zh"]


def test_connections_beyond_the_limit_are_turned_away() -> None:
    with (
        serving(settings(port=0, most_connections=1)) as address,
        socket.create_connection(address, timeout=WAIT) as first,
    ):
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert first.recv(65_536).startswith(b"HTTP/1.1 200")
        status, headers, _ = exchange(address)
        assert status == 503
        assert int(headers["retry-after"]) > 0


def test_no_server_name_and_pipelined_requests_are_answered() -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with serving(settings(port=0)) as address:
        status, headers, body = exchange(
            address, ask + b"\r\n" + ask + b"Connection: close\r\n\r\n"
        )
        assert status == 200
        assert "server" not in headers
        assert body.count(b'{"status":"ok"}') == 2


def test_large_body_is_refused_with_an_answer_that_arrives() -> None:
    with serving(settings(port=0, most_small_body_bytes=1024)) as address:
        sent = b"POST /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300000\r\n\r\n"
        status, headers, _ = exchange(address, sent, b"x" * 1500)
        assert status == 413
        assert headers["connection"] == "close"


def test_requests_under_way_are_ended_before_it_stops() -> None:
    entered, leave = threading.Event(), threading.Event()

    def long() -> str:
        entered.set()
        leave.wait(WAIT)
        return "done"

    answers: list[bytes] = []
    with serving(settings(port=0), long=long) as address:

        def ask() -> None:
            wire = http.client.HTTPConnection(*address, timeout=WAIT)
            wire.request("GET", "/long")
            answers.append(wire.getresponse().read())

        thread = threading.Thread(target=ask)
        thread.start()
        assert entered.wait(WAIT)
        threading.Timer(0.3, leave.set).start()
    thread.join(WAIT)
    assert answers == [b'"done"']


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with cert.pem and key.pem for 127.0.0.1, signed by themselves."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [*OPENSSL, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


def over_tls(address: tuple[str, int], context: ssl.SSLContext) -> http.client.HTTPResponse:
    wire = http.client.HTTPSConnection(*address, timeout=WAIT, context=context)
    wire.request("GET", "/healthz")
    answer = wire.getresponse()
    answer.read()
    return answer


def test_tls_is_at_least_1_2_and_says_so_to_browsers(pem: Path) -> None:
    given = settings(port=0, tls_certificate=pem / "cert.pem", tls_key=pem / "key.pem")
    trusting = ssl.create_default_context(cafile=str(pem / "cert.pem"))
    with serving(given) as address:
        answer = over_tls(address, trusting)
        assert answer.status == 200
        assert "max-age" in answer.headers["strict-transport-security"]
        old = ssl.create_default_context(cafile=str(pem / "cert.pem"))
        old.set_ciphers("DEFAULT:@SECLEVEL=0")  # else the client itself would not ask for 1.1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match=r"EOF|ALERT_PROTOCOL"):
            over_tls(address, old)


def test_callers_must_show_a_certificate_where_that_is_asked(pem: Path) -> None:
    given = settings(
        port=0,
        tls_certificate=pem / "cert.pem",
        tls_key=pem / "key.pem",
        tls_client_ca=pem / "cert.pem",
    )
    context = ssl.create_default_context(cafile=str(pem / "cert.pem"))
    with serving(given) as address:
        with pytest.raises(OSError):  # noqa: PT011 (cut in the handshake or at the first read)
            over_tls(address, context)
        context.load_cert_chain(pem / "cert.pem", pem / "key.pem")
        assert over_tls(address, context).status == 200


def test_wrong_certificate_is_one_line(pem: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError) as told:
        settings(tls_certificate=wrong, tls_key=pem / "key.pem").tls_context()
    assert "\n" not in str(told.value)


def test_files_of_tls_that_are_not_there_are_named(pem: Path, tmp_path: Path) -> None:
    whole = {"tls_certificate": pem / "cert.pem", "tls_key": pem / "key.pem"}
    missing = tmp_path / "nowhere.pem"
    for name in ("tls_certificate", "tls_key", "tls_client_ca"):
        with pytest.raises(SettingsError, match=f"^{name}: .*nowhere.pem: No such file"):
            settings(**{**whole, name: missing}).tls_context()


def test_an_encrypted_key_is_refused_and_asks_nobody(pem: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    change = ["openssl", "pkey", "-aes128", "-passout", "pass:secret"]
    subprocess.run(
        [*change, "-in", pem / "key.pem", "-out", locked], check=True, capture_output=True
    )
    with pytest.raises(SettingsError, match=r"^tls_key: is encrypted"):
        settings(tls_certificate=pem / "cert.pem", tls_key=locked).tls_context()


# ---- address and systemd ------------------------------------------------------------------------


def test_address_names_the_real_port() -> None:
    given = settings(port=0)
    with bind(given) as bound:
        port = bound.getsockname()[1]
        assert port > 0
        assert url_of(bound, given) == f"http://127.0.0.1:{port}"
        bound.listen()
        with pytest.raises(OSError, match="in use"):
            bind(settings(port=port))


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notify("READY=1")  # nobody listens: nothing happens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
