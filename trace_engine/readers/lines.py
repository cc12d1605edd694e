"""Text files as blocks of clean UTF-8 lines with their numbers, whatever the file is made of.

Bytes stream through in blocks: no file is held in memory, nor a line longer than ``LINE_LIMIT``.
Encodings are settled line by line, since dumps glued together from several systems mix them. A line
that cannot be used becomes a reject; the lines behind it keep their numbers.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.linescan import BLANK, OPEN, scan_lines
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import InputError, RejectList, raw_text
from trace_engine.readers.formats import SAMPLE, open_bytes

BLOCK_BYTES = 8 << 20
LINE_LIMIT = 16 << 20
JOINED_LINES = 100  # a quoted field may span so many lines, and no more
JOINED_BYTES = 1 << 16

_BOM = codecs.BOM_UTF8
_NEWLINE = 10


@dataclass(slots=True)
class Block:
    """Whole lines: ``data`` is UTF-8 and ends with a newline; shapes ``(lines,)``."""

    data: bytes
    rows: npt.NDArray[np.int64]  # 1-based data row (header and blank lines do not count)
    lines: npt.NDArray[np.int64]  # 1-based line of the file

    def __len__(self) -> int:
        return len(self.rows)


def guess_encoding(sample: bytes) -> str:
    """Return ``utf-8``, ``gb18030`` or ``utf-16`` by the beginning of a file.

    Where lines of both kinds occur the file counts as UTF-8: what is no UTF-8 is then read as
    GB18030, while valid UTF-8 of some length is never anything else by chance.
    """
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    whole = sample if len(sample) < SAMPLE else sample[: sample.rfind(b"\n") + 1]
    found = ""
    for line in whole.split(b"\n"):
        if line.isascii():
            continue
        if _is_utf8(line):
            if not _short(line):
                return "utf-8"
        elif _from_gb18030(line) is not None:
            found = "gb18030"
    return found or "utf-8"


def sample_lines(sample: bytes, encoding: str) -> list[str]:
    """Return the lines of the beginning of a file as text, each in its own encoding."""
    if encoding == "utf-16":
        text = sample.decode("utf-16", "replace")
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = sample.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [(to_utf8(line, encoding) or line).decode("utf-8", "replace") for line in lines]


def to_utf8(text: bytes, encoding: str) -> bytes | None:
    """Return one line as UTF-8, or None if it is neither UTF-8 nor GB18030."""
    if text.isascii():
        return text
    if _is_utf8(text) and not (encoding == "gb18030" and _short(text)):
        return text
    return _from_gb18030(text)


class LineReader:
    """The lines of one text file; rejects go to ``rejects``.

    ``delimiter`` of a CSV file, so that quoted fields may span lines; None for other text.
    """

    def __init__(
        self,
        path: str,
        rejects: RejectList,
        pseudonyms: Pseudonyms,
        *,
        encoding: str,
        delimiter: str | None = None,
        header_lines: int = 0,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._path = path
        self._rejects = rejects
        self._pseudonyms = pseudonyms
        self._encoding = encoding
        self._delimiter = -1 if delimiter is None else ord(delimiter)
        self._skip = header_lines
        self._block_bytes = block_bytes
        self._row = 1  # number of the next data row
        self._line = 1  # number of the next line
        self._carried = b""  # lines of a quoted field that the block before did not end
        self._long_start = b""

    def blocks(self) -> Iterator[Block]:
        """Yield all lines but the header. Raises :class:`InputError` where bytes cannot be read."""
        try:
            with open_bytes(self._path) as stream:
                for data, long_line in self._pieces(stream):
                    block = self._block(self._carried + data, final=long_line)
                    if block is not None and len(block):
                        yield block
                    if long_line:
                        self._reject_long()
                block = self._block(self._carried, final=True)
                if block is not None and len(block):
                    yield block
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise InputError(
                f"{self._path}: cannot be read to its end, truncated or damaged ({error})",
                f"{self._path}：无法读完，文件被截断或损坏（{error}）",
            ) from error

    def _pieces(self, stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """Yield (whole lines, whether a line beyond the limit follows them)."""
        pending = bytearray()
        dropping = False
        for piece in self._decoded(stream):
            chunk = piece
            if dropping:
                at = chunk.find(b"\n")
                if at < 0:
                    continue
                chunk = chunk[at + 1 :]
                dropping = False
            pending += chunk
            at = pending.rfind(b"\n")
            if at >= 0:
                whole = bytes(pending[: at + 1])
                del pending[: at + 1]
                yield from self._without_long(whole)
            if len(pending) > LINE_LIMIT:
                self._long_start = bytes(pending[:4000])
                pending.clear()
                dropping = True
                yield b"", True
        if pending:
            yield from self._without_long(bytes(pending) + b"\n")

    def _without_long(self, whole: bytes) -> Iterator[tuple[bytes, bool]]:
        """Cut lines beyond the limit out of whole lines (blocks can hold more than one limit)."""
        if len(whole) <= LINE_LIMIT:
            yield whole, False
            return
        start = 0
        position = 0
        while position < len(whole):
            end = whole.find(b"\n", position) + 1
            if end - position > LINE_LIMIT:
                self._long_start = whole[position : position + 4000]
                yield whole[start:position], True
                start = end
            position = end
        if start < len(whole):
            yield whole[start:], False

    def _decoded(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield the bytes of the file, UTF-16 as UTF-8, without a byte-order mark, lines by LF."""
        decoder = codecs.getincrementaldecoder("utf-16")() if self._encoding == "utf-16" else None
        first = True
        carriage = False
        while True:
            chunk = bytes(stream.read(self._block_bytes))
            if not chunk:
                break
            if decoder is not None:
                chunk = decoder.decode(chunk).encode("utf-8", "surrogatepass")
            if first:
                chunk = chunk.removeprefix(_BOM)
                first = False
            if carriage:
                chunk = b"\r" + chunk
            carriage = chunk.endswith(b"\r")
            if carriage:
                chunk = chunk[:-1]
            if b"\r" in chunk:
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            yield chunk
        if decoder is not None:
            decoder.decode(b"", final=True)

    def _reject_long(self) -> None:
        text = self._long_start.decode("utf-8", "replace")
        self._reject("line_too_long", f"longer than {LINE_LIMIT >> 20} MiB", text)
        self._line += 1
        self._row += 1

    def _reject(self, reason: str, detail: str, text: str) -> None:
        raw = raw_text(text, self._pseudonyms)
        self._rejects.add(self._path, self._row, "", reason, f"line {self._line}: {detail}", raw)

    def _block(self, data: bytes, *, final: bool) -> Block | None:
        self._carried = b""
        while self._skip and data:
            data = data[data.find(b"\n") + 1 :]
            self._skip -= 1
            self._line += 1
        if not data:
            return None
        view = np.frombuffer(data, np.uint8)
        count = int(np.count_nonzero(view == _NEWLINE))
        ends = np.empty(count, np.int64)
        marks = np.zeros(count, np.uint8)
        plain = data.isascii() or (self._encoding != "gb18030" and _is_utf8(data))
        if plain and (_surely_unmarked(data) or not scan_lines(view, self._delimiter, ends, marks)):
            rows = np.arange(self._row, self._row + count)
            lines = np.arange(self._line, self._line + count)
            self._row += count
            self._line += count
            return Block(data, rows, lines)
        if not plain:
            scan_lines(view, self._delimiter, ends, marks)
        return self._line_by_line(data, ends.tolist(), marks.tolist(), final=final)

    def _line_by_line(
        self, data: bytes, ends: list[int], marks: list[int], *, final: bool
    ) -> Block:
        kept: list[bytes] = []
        rows: list[int] = []
        lines: list[int] = []
        start = 0
        i = 0
        while i < len(ends):
            taken = 1
            if marks[i] == BLANK:
                start = ends[i] + 1
                i += 1
                self._line += 1
                continue
            text = data[start : ends[i]]
            if marks[i] == OPEN:
                joined, taken = self._join(data, start, ends, i)
                if joined is None and not final and _may_go_on(len(ends) - i, len(data) - start):
                    self._carried = data[start:]
                    break
                if joined is None:
                    self._reject("unbalanced_quote", "a quoted field does not end", _shown(text))
                    text = b""
                else:
                    text = joined
            if text:
                good = to_utf8(text, self._encoding)
                if good is None:
                    self._reject("undecodable", "neither UTF-8 nor GB18030", _shown(text))
                else:
                    kept.append(good)
                    rows.append(self._row)
                    lines.append(self._line)
            i += taken
            start = ends[i - 1] + 1
            self._row += 1
            self._line += taken
        joined_data = b"\n".join(kept) + b"\n" if kept else b""
        return Block(joined_data, np.array(rows, np.int64), np.array(lines, np.int64))

    def _join(self, data: bytes, start: int, ends: list[int], i: int) -> tuple[bytes | None, int]:
        """Join line ``i`` with those behind it until its quoted field ends; None if it does not."""
        one = np.empty(1, np.int64)
        mark = np.empty(1, np.uint8)
        for last in range(i + 1, min(i + JOINED_LINES, len(ends))):
            if ends[last] - start > JOINED_BYTES:
                break
            text = data[start : ends[last]].replace(b"\n", b" ")
            scan_lines(np.frombuffer(text + b"\n", np.uint8), self._delimiter, one, mark)
            if mark[0] != OPEN:
                return text, last - i + 1
        return None, 1


def _from_gb18030(text: bytes) -> bytes | None:
    try:
        return text.decode("gb18030").encode()
    except UnicodeDecodeError:
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _short(text: bytes) -> bool:
    """Whether so few bytes are beyond ASCII that GB18030 could be valid UTF-8 by chance."""
    return sum(byte >= 128 for byte in text) <= 6


def _surely_unmarked(data: bytes) -> bool:
    """Whether a quick look shows that no line can be blank or hold a quote; False: look closer."""
    blanks = (b"\n\n", b"\n ", b"\n\t")
    return data[0] > 32 and b'"' not in data and not any(blank in data for blank in blanks)


def _may_go_on(lines: int, size: int) -> bool:
    """Whether a quoted field open at the end of a block may yet end in the next one."""
    return lines < JOINED_LINES and size <= JOINED_BYTES


def _shown(text: bytes) -> str:
    cut = text[:4000]
    return cut.decode() if _is_utf8(cut) else cut.decode("gb18030", "backslashreplace")
