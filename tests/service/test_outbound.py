from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import Any

import pytest

from tests.service.routes.receiver import Receiver
from trace_engine.service import outbound
from trace_engine.service.outbound import (
    Caller,
    RefusedAddressError,
    UnreachableError,
    _is_own,
    check_address,
    check_url,
    networks,
)

HERE = networks(["127.0.0.0/8"])


@pytest.mark.parametrize(
    "url",
    [
        "https://desk.example.gov.cn/hook",
        "http://desk:8443/a?b=c",
        "http://10.1.2.3/hook",
        "http://192.168.0.9:8080",
        "https://[fd00::12]/x",
        "http://8.8.8.8/",
    ],
)
def test_urls_that_may_be_called(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://desk/hook",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//desk/hook",
        "http://",
        "http:///path",
        "http://user:secret@desk/",
        "http://user@desk/",
        "http://@desk/",
        "http://desk/#part",
        "http://desk/#",
        "http://desk:0/",
        "http://desk:99999/",
        "http://desk:x/",
        "http://desk /",
        "http://desk\\@evil/",
        "http://desk/\r\nX: y",
        "http://单位.例子/",
        "http://[::1",
        "http://desk/" + "x" * 2000,
        "http://127.0.0.1/",
        "http://127.9.9.9:8420/",
        "http://0.0.0.0/",
        "http://0/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
        "http://168.63.129.16/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ],
)
def test_urls_that_may_not(url: str) -> None:
    with pytest.raises(RefusedAddressError) as refused:
        check_url(url)
    assert refused.value.zh


def test_settings_may_allow_what_is_local() -> None:
    check_url("http://127.0.0.1:9000/", HERE)
    check_address(ipaddress.ip_address("::ffff:127.0.0.1"), HERE)
    check_address(ipaddress.ip_address("fe80::1"), networks(["fe80::/10"]))
    with pytest.raises(RefusedAddressError):
        check_url("http://169.254.169.254/", HERE)


def test_a_request_arrives_and_its_connection_is_kept() -> None:
    caller = Caller(HERE)
    with Receiver().running() as receiver:
        for _ in range(2):
            status, headers = caller.post(receiver.url, {"X-A": "b"}, b"hello", 5)
            assert (status, headers["content-length"]) == (200, "2")
        assert [request.body for request in receiver.requests] == [b"hello", b"hello"]
        caller.close()


def answer_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Have every name looked up answer with these addresses; return the names asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if host in addresses:
            return list(real(host, port, *rest, **more))
        asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_a_name_is_looked_up_once_and_what_it_answers_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Receiver().running() as receiver:
        asked = answer_with(monkeypatch, "127.0.0.1")
        url = f"http://desk.example.cn:{receiver.port}/hook"
        with pytest.raises(RefusedAddressError, match=r"127\.0\.0\.1"):
            Caller().post(url, {}, b"", 5)
        assert receiver.requests == []
        assert Caller(HERE).post(url, {}, b"", 5)[0] == 200
        assert asked == ["desk.example.cn"] * 2
        assert receiver.requests[0].headers["Host"] == f"desk.example.cn:{receiver.port}"


def test_one_refused_address_among_good_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "10.0.0.1", "169.254.169.254")
    with pytest.raises(RefusedAddressError, match=r"169\.254"):
        Caller().post("http://desk.example.cn/", {}, b"", 5)


def test_addresses_of_the_machine_itself_are_known() -> None:
    for own in ("127.0.0.1", "127.9.9.9"):
        assert _is_own(ipaddress.ip_address(own))
    for other in ("192.0.2.1", "8.8.8.8", "10.255.255.254", "2001:db8::1"):
        assert not _is_own(ipaddress.ip_address(other))


def test_an_address_of_an_interface_is_refused_unless_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = ipaddress.ip_address("10.20.30.40")
    monkeypatch.setattr(outbound, "_is_own", lambda address: address == own)
    check_url("http://10.20.30.41/")
    check_url("http://10.20.30.40/", networks(["10.20.30.40/32"]))
    for url in ("http://10.20.30.40/", "http://[::ffff:10.20.30.40]/"):
        with pytest.raises(RefusedAddressError, match=r"10\.20\.30\.40"):
            check_url(url)


def test_redirects_are_not_followed() -> None:
    with Receiver().running() as receiver:
        receiver.answers.append((307, {"Location": "/elsewhere"}))
        assert Caller(HERE).post(receiver.url, {}, b"x", 5)[0] == 307
        assert [request.path for request in receiver.requests] == ["/hook"]


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_a_request_as_a_whole_has_a_deadline(answer: str) -> None:
    with Receiver().running() as receiver:
        receiver.answers.append(answer)
        start = time.monotonic()
        with pytest.raises(UnreachableError, match=r"0\.3 s"):
            Caller(HERE).post(receiver.url, {}, b"x", 0.3)
        assert time.monotonic() - start < 5
        assert Caller(HERE).post(receiver.url, {}, b"x", 5)[0] == 200


def test_what_cannot_be_reached_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver().running() as receiver:
        receiver.answers.append("cut")
        with pytest.raises(UnreachableError):
            Caller(HERE).post(receiver.url, {}, b"x", 5)
        url = receiver.url
        https = url.replace("http", "https")
        with pytest.raises(UnreachableError):
            Caller(HERE).post(https, {}, b"x", 5)
    with pytest.raises(UnreachableError, match="ConnectError"):
        Caller(HERE).post(url, {}, b"x", 5)

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UnreachableError, match="is not known"):
        Caller(HERE).post("http://nowhere.example/", {}, b"x", 5)


def slow_resolver(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Have no name answered before the second event; the first says that one was asked for."""
    asked, answer = threading.Event(), threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        asked.set()
        answer.wait(20)
        raise socket.gaierror(-3, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked, answer


def test_a_resolver_that_does_not_answer_is_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, answer = slow_resolver(monkeypatch)
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"0\.3 s"):
        Caller(HERE).post("http://desk.example.cn/", {}, b"x", 0.3)
    assert time.monotonic() - start < 5
    answer.set()


def test_a_look_up_under_way_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = slow_resolver(monkeypatch)
    caller = Caller(HERE)
    ended = threading.Event()

    def call() -> None:
        with pytest.raises(UnreachableError):
            caller.post("http://desk.example.cn/", {}, b"x", 20)
        ended.set()

    threading.Thread(target=call, daemon=True).start()
    assert asked.wait(5)
    caller.abort()
    assert ended.wait(5)
    answer.set()


def test_a_request_under_way_can_be_ended() -> None:
    with Receiver().running() as receiver:
        receiver.answers.append("hang")
        caller = Caller(HERE)
        ended = threading.Event()

        def call() -> None:
            with pytest.raises(UnreachableError):
                caller.post(receiver.url, {}, b"x", 20)
            ended.set()

        threading.Thread(target=call, daemon=True).start()
        receiver.wait(1)
        caller.abort()
        assert ended.wait(5)
