"""An object store in memory that speaks as much S3 as the broker of the tests needs.

The broker keeps nothing itself when it stores its log there, so it can be killed and started again
without losing what it has acknowledged, as a broker with a disk.
"""

from __future__ import annotations

import hashlib
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "/tansu/"


class ObjectStore(ThreadingHTTPServer):
    """Objects by key: (content, entity tag, time of change)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, tuple[bytes, str, float]] = {}
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def environ(self) -> dict[str, str]:
        """Return what tells the broker where the store is."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "test",
            "AWS_CONDITIONAL_PUT": "etag",
        }

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when the broker is killed in the middle of a request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ObjectStore

    def log_message(self, *args: object) -> None:
        """Say nothing of each request."""

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(BUCKET)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self._key()
        with self.server.lock:
            known = self.server.objects.get(key)
            wanted = self.headers.get("If-Match")
            taken = self.headers.get("If-None-Match") == "*" and known is not None
            if taken or (wanted is not None and (known is None or known[1] != wanted)):
                self._answer(412)
                return
            tag = f'"{hashlib.md5(content).hexdigest()}-{time.monotonic_ns()}"'
            self.server.objects[key] = (content, tag, time.time())
        self._answer(200, ETag=tag)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in query:
            self._list(query)
            return
        with self.server.lock:
            found = self.server.objects.get(self._key())
        if found is None:
            self._answer(404)
            return
        content, tag, changed = found
        if self.headers.get("If-None-Match") == tag:
            self._answer(304, ETag=tag)
            return
        said = {"ETag": tag, "Last_Modified": formatdate(changed, usegmt=True)}
        span = self.headers.get("Range")
        if span is None:
            self._answer(200, content, **said)
            return
        first, _, last = span.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(len(content), int(last) + 1) if first and last else len(content)
        said["Content_Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self._answer(206, content[start:stop], **said)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        with self.server.lock:
            self.server.objects.pop(self._key(), None)
        self._answer(204)

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        after = query.get("start-after", [""])[0]
        with self.server.lock:
            known = sorted(self.server.objects.items())
        contents, folders = [], set()
        for key, (content, tag, changed) in known:
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(changed))
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{moment}</LastModified>"
                f"<ETag>{escape(tag)}</ETag><Size>{len(content)}</Size></Contents>"
            )
        common = [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders]
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
            f"<Name>tansu</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
            f"<KeyCount>{len(contents)}</KeyCount>{''.join(contents)}{''.join(common)}"
            "</ListBucketResult>"
        )
        self._answer(200, body.encode(), Content_Type="application/xml")
