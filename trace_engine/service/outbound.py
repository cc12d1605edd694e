"""Requests to addresses that users named, so that they reach only what they may reach.

The name is resolved here and the connection goes to the address that was looked at, so that a name
cannot answer one way when it is checked and another way when it is used. Redirects are not
followed, proxies of the environment are not used, and a request as a whole has a deadline: a
receiver that sends a byte now and then does not hold it open.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpcore

LONGEST_URL = 2000
MOST_READ = 1 << 16  # bytes of an answer, which nobody looks at, so that the connection stays good

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds keep what a machine must not tell others; not link-local, so named one by one.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
)
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_NOBODYS: dict[int, Address] = {  # kept for documents: RFC 5737, RFC 3849
    4: ipaddress.IPv4Address("192.0.2.1"),
    6: ipaddress.IPv6Address("2001:db8::1"),
}
_DISCARD = 9  # a port; which one does not matter, as nothing is sent
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HOST = re.compile(r"[A-Za-z0-9._\-]{1,253}|\[[0-9A-Fa-f:.]+\]")


class RefusedAddressError(Exception):
    """An address that is not to be called; one line says why, ``zh`` says it in Chinese."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


class UnreachableError(Exception):
    """A request that got no whole answer; one line says why."""


def check_url(url: str, allowed: Sequence[Network] = ()) -> None:
    """Raise :class:`RefusedAddressError` unless ``url`` may be called as far as it alone can tell.

    http or https, a host, no user name or password, no fragment; where the host is an address, one
    that may be called. Names are looked up only when they are called.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RefusedAddressError("the URL cannot be read", "网址无法解析") from None
    if len(url) > LONGEST_URL or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise RefusedAddressError(
            f"expected an ASCII URL of at most {LONGEST_URL} characters without blanks",
            f"应为不含空格的 ASCII 网址，至多 {LONGEST_URL} 个字符",
        )
    if parts.scheme not in ("http", "https"):
        raise RefusedAddressError("expected http or https", "应为 http 或 https")
    if "@" in parts.netloc:
        raise RefusedAddressError(
            "a user name or password has no place in it", "网址中不得含用户名或密码"
        )
    if parts.fragment or "#" in url:
        raise RefusedAddressError("a fragment has no place in it", "网址中不得含 # 片段")
    bare = parts.netloc.rpartition(":")[0] if re.search(r":\d*$", parts.netloc) else parts.netloc
    if not parts.hostname or port == 0 or not _HOST.fullmatch(bare):
        raise RefusedAddressError("the host cannot be used", "主机名不可用")
    literal = _literal(parts.hostname)
    if literal is not None:
        check_address(literal, allowed)


def _literal(host: str) -> Address | None:
    """Return the address that a host is, also in the odd forms that resolvers take (0x7f.1)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if re.fullmatch(r"(0[xX][0-9A-Fa-f]*|[0-9]+)(\.(0[xX][0-9A-Fa-f]*|[0-9]+)){0,3}\.?", host):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
        except OSError:
            return None
    return None


def check_address(address: Address, allowed: Sequence[Network] = ()) -> None:
    """Raise :class:`RefusedAddressError` for an address of this machine, this link or the cloud's own.

    Private networks may be called: bureaus live in them. ``allowed`` networks may be called in any
    case.
    """
    for one in _within(address):
        if any(one.version == network.version and one in network for network in allowed):
            continue
        if (
            one.is_loopback
            or one.is_link_local
            or one.is_multicast
            or one.is_unspecified
            or one.is_reserved
            or one in _METADATA
            or (one.version == 4 and int(one) >> 24 == 0)
            or _is_own(one)
        ):
            raise RefusedAddressError(
                f"{one} is an address of this machine, this link or its cloud: not called unless "
                "the settings allow it",
                f"{one} 为本机、本链路或云平台内部地址，除非在设置中允许，否则不予访问",
            )


def _is_own(address: Address) -> bool:
    """Return whether an address is one of this machine's interfaces. Sends nothing.

    To an address of its own a machine speaks from that same address, and to no other. Further
    addresses of an interface are spoken to from its first one, but only what is the machine's own
    can be bound to, unless it may bind to any (``ip_nonlocal_bind``), even one nobody has.
    """
    if _speaks_from_itself(address):
        return True
    return _can_bind(address) and not _can_bind(_NOBODYS[address.version])


def _speaks_from_itself(address: Address) -> bool:
    try:
        with socket.socket(_FAMILY[address.version], socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _DISCARD))
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:  # no way there at all, or the machine does not speak this version
        return False


def _can_bind(address: Address) -> bool:
    try:
        with socket.socket(_FAMILY[address.version], socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _within(address: Address) -> Iterable[Address]:
    """Yield an address and those of IPv4 that it stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
            return
        if address in _NAT64:
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
            return
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
    yield address


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks for texts like ``10.0.0.0/8`` or ``::1``. Raises ``ValueError``."""
    return tuple(ipaddress.ip_network(text) for text in texts)


class Caller:
    """Sends POST requests, one at a time; keeps a connection between them. Not thread-safe."""

    def __init__(
        self, allowed: Sequence[Network] = (), context: ssl.SSLContext | None = None
    ) -> None:
        self._backend = _Backend(allowed)
        self._allowed = allowed
        self._pool = httpcore.ConnectionPool(
            ssl_context=context or ssl.create_default_context(),
            max_connections=1,
            keepalive_expiry=30.0,
            network_backend=self._backend,
        )

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> tuple[int, dict[str, str]]:
        """Return status and headers (names in lower case) of the answer; its body is not kept.

        Raises :class:`RefusedAddressError` where the address must not be called and
        :class:`UnreachableError` where no whole answer came within ``seconds``.
        """
        check_url(url, self._allowed)
        self._backend.deadline = time.monotonic() + seconds
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        try:
            with self._pool.stream(
                "POST",
                url,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": timeout},
            ) as response:
                size = 0
                for chunk in response.iter_stream():
                    size += len(chunk)
                    if size > MOST_READ:
                        break
                found = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                return response.status, found
        except httpcore.TimeoutException:
            raise UnreachableError(f"no whole answer within {seconds:g} s") from None
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.ConnectionNotAvailable,
        ) as e:
            raise UnreachableError(f"{type(e).__name__}: {e}"[:200]) from e
        except ssl.SSLError as error:
            raise UnreachableError(f"TLS: {error.reason or error}"[:200]) from error

    def abort(self) -> None:
        """Have a request that is under way in another thread end at once."""
        self._backend.abort()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class _Backend(httpcore.NetworkBackend):
    """Connects to addresses that were looked at, until the deadline."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._plain = httpcore.SyncBackend()
        self.deadline = 0.0
        self._aborted = False
        self._latest: httpcore.NetworkStream | None = None
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of the resolver; None: abort

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._look_up(host, port)
        for text in addresses:  # all of them: which one answers is not in our hands
            check_address(ipaddress.ip_address(text), self._allowed)
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for text in addresses:
            try:
                stream = self._plain.connect_tcp(
                    text, port, self.left(), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
                continue
            self._latest = stream
            return _Stream(stream, self)
        raise problem

    def _look_up(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name. A resolver that does not answer is left behind in time.

        It knows no deadline, so it is asked in a thread, which ends when it gives up by itself.
        """
        answers = self._answers = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                answers.put(error)

        left = self.left()
        threading.Thread(target=ask, name="webhook-name", daemon=True).start()
        try:
            found = answers.get(timeout=left)
        except queue.Empty:
            raise httpcore.ConnectTimeout from None
        if found is None:
            raise httpcore.ConnectTimeout  # aborted
        if isinstance(found, Exception):
            raise httpcore.ConnectError(f"{host} is not known") from found
        return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))

    def left(self) -> float:
        """Return the seconds that are left; raises where there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0 or self._aborted:
            raise httpcore.ReadTimeout
        return left

    def abort(self) -> None:
        """Wake whoever waits for the connection, and let nothing begin any more."""
        self._aborted = True
        self._answers.put(None)
        stream = self._latest
        connection = None if stream is None else stream.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


class _Stream(httpcore.NetworkStream):
    """A connection whose every step ends with the deadline of the request."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._backend.left())
        return _Stream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
