"""``python -m trace_engine.service.probe``: exit 0 if the service here answers, else 1.

For a container's health check, where no curl is. It asks ``/healthz`` at the port and with the
scheme of the settings; the certificate is not checked, as it names the outside's address.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys

from trace_engine.service.settings import ServiceSettings, SettingsError, load

SECONDS = 4.0


def answers(settings: ServiceSettings) -> bool:
    """Return whether ``/healthz`` answers 200."""
    wild = settings.host in ("0.0.0.0", "::")  # noqa: S104 (compared, not listened on)
    host = ("[::1]" if settings.host == "::" else "127.0.0.1") if wild else settings.host
    if settings.tls_client_ca is not None:
        return _is_listening(host.strip("[]"), settings.port)  # it wants a certificate of us
    if settings.tls_certificate is None:
        wire = http.client.HTTPConnection(host, settings.port, timeout=SECONDS)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        wire = http.client.HTTPSConnection(host, settings.port, timeout=SECONDS, context=context)
    headers = {"Host": settings.allowed_hosts[0]} if settings.allowed_hosts else {}
    try:
        wire.request("GET", "/healthz", headers=headers)
        return wire.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        wire.close()


def _is_listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError:
        return False
    return True


def main() -> int:
    """Return the exit code."""
    try:
        return 0 if answers(load()) else 1
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
