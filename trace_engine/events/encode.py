"""The door: loose Arrow rows in, :class:`EventBatch` out, and what does not fit as rejects.

Nothing is lost on the way: every row ends in the batch or in the rejects, with a reason. Columns
are read one at a time by compiled kernels; only rows that are refused are touched one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.events import batch as b
from trace_engine.events.batch import MISSING, MISSING_DAY, MISSING_TIME, EventBatch, Vocabulary
from trace_engine.events.codekeys import CodeKeys
from trace_engine.events.hashing import ContentHasher, combine, finish, hash64, hash_texts, mix
from trace_engine.events.kinds import CODELESS, INCOMING, INFO, OUTGOING, EventKind, Role, parse_kind
from trace_engine.events.parsing import BAD, DATE_FORMS, FIRST_TIME, LAST_TIME, TIME_FORMS
from trace_engine.events.privacy import Pseudonyms, is_identity_card, looks_personal, maybe_personal
from trace_engine.events.raw import RAW_ROWS, InputError, RawBatch, RejectList, raw_row
from trace_engine.events.schema import REQUIRED
from trace_engine.events.texts import TextColumn, TextTable, text_column
from trace_engine.events.values import ValueReader, as_text, wrong_type
from trace_engine.core.kernel import kernel

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
UInt64 = npt.NDArray[np.uint64]

MAXIMUM_PRICE = 10_000_000 * 100  # fen; dearer is a slip of the keyboard (CAR-T costs 1.3 million)
MAXIMUM_QUANTITY = 10_000_000  # packs in one row

_BLANKS = "".join(map(chr, range(33)))
_KINDS = len(EventKind)
_IS_OUTGOING = np.array([EventKind(k) in OUTGOING for k in range(_KINDS)])
_IS_INCOMING = np.array([EventKind(k) in INCOMING for k in range(_KINDS)])
_IS_CODELESS = np.array([EventKind(k) in CODELESS for k in range(_KINDS)])
_IS_PERSON_SALE = np.array([INFO[EventKind(k)].role == Role.PERSON_SALE for k in range(_KINDS)])

# Content that no field of EventBatch holds: it counts when two rows with one id are compared.
_EXTRA_TEXTS = (
    "parent_code", "from_bill_code", "invoice_no", "rx_no", "pharmacist_id", "doctor_id",
    "device_id", "operator_id",
)  # fmt: skip


@dataclass(slots=True)
class Encoded:
    """What became of the rows of one :class:`RawBatch`."""

    batch: EventBatch
    rejects: pa.Table  # schema findings.REJECTS
    rows_in: int
    rows: Int64  # number in its file of each event of ``batch``
    unknown_regions: int = 0  # rows kept that state a region no code book knows


@kernel
def _add_extra(total: UInt64, hashes: UInt64, salt: np.uint64) -> None:
    """Fold one more column into hashes of content; rows without a value stay as they are."""
    for i in range(len(total)):
        if hashes[i] != np.uint64(0):
            total[i] += finish(mix(salt, hashes[i]))


class _Problems:
    """The first thing wrong with each row of a batch."""

    def __init__(self, count: int) -> None:
        self.of_row = np.zeros(count, np.uint8)
        self.kinds: list[tuple[str, str, str]] = [("", "", "")]

    def mark(self, wrong: Bool, column: str, reason: str, expected: str) -> None:
        """Note a problem of the rows where ``wrong`` is set and nothing was wrong so far."""
        if not wrong.any():
            return
        self.kinds.append((column, reason, expected))
        np.copyto(self.of_row, np.uint8(len(self.kinds) - 1), where=wrong & (self.of_row == 0))


class _Tables:
    """What an encoder remembers of texts, for one thread."""

    def __init__(
        self, vocabulary: Vocabulary, region_index: Callable[[str], int], pseudonyms: Pseudonyms
    ) -> None:
        def interned(interner: b.Interner) -> TextTable:
            return TextTable(lambda texts: interner.ids(texts).astype(np.int64))

        def parties(texts: Sequence[str]) -> Int64:
            # A person's number where an enterprise is expected must not be stored either.
            names = [pseudonyms.of(t) if is_identity_card(t) else t for t in texts]
            return vocabulary.parties.ids(names).astype(np.int64)

        def regions(texts: Sequence[str]) -> Int64:
            return np.fromiter(map(region_index, texts), np.int64, len(texts))

        def kinds(texts: Sequence[str]) -> Int64:
            return np.fromiter(map(_kind, texts), np.int64, len(texts))

        self.values = ValueReader()
        self.codes = CodeKeys(vocabulary)
        self.content = ContentHasher(vocabulary)
        self.parties = TextTable(parties)
        self.drugs = interned(vocabulary.drugs)
        self.batches = interned(vocabulary.batches)
        self.platforms = interned(vocabulary.platforms)
        self.shops = interned(vocabulary.shops)
        self.regions = TextTable(regions)
        self.kinds = TextTable(kinds)


def _kind(text: str) -> int:
    # A spreadsheet that saw an empty cell writes bill number 201 as 201.0.
    return int(parse_kind(text.removesuffix(".0")))


class Encoder:
    """Turns raw rows into events of one vocabulary. May be shared between threads.

    ``key`` is the secret for pseudonyms (default: see ``privacy.default_key``). ``region_index``
    maps a stated region code to its index (default: the shipped table of GB/T 2260 codes).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        key: bytes | None = None,
        region_index: Callable[[str], int] | None = None,
    ) -> None:
        if region_index is None:
            from trace_engine.registry.regions import load_regions

            region_index = load_regions().index
        self.vocabulary = vocabulary
        self.pseudonyms = Pseudonyms(key)
        self._region_index = region_index
        self._local = threading.local()
        self._raw_left = RAW_ROWS

    def encode(self, raw: RawBatch) -> Encoded:
        """Return the events of ``raw`` and its rejects.

        Raises :class:`InputError` where a required column is missing or a column has a type that
        can never be right.
        """
        try:
            return self._encode(raw)
        except InputError as error:
            raise InputError(f"{raw.path}: {error}", error.zh and f"{raw.path}：{error.zh}") from error

    def _tables(self) -> _Tables:
        tables: _Tables | None = getattr(self._local, "tables", None)
        if tables is None:
            tables = _Tables(self.vocabulary, self._region_index, self.pseudonyms)
            self._local.tables = tables
        return tables

    def _encode(self, raw: RawBatch) -> Encoded:
        columns = {
            name: column
            for name, column in zip(raw.batch.schema.names, raw.batch.columns, strict=True)
            if not pa.types.is_null(column.type)
        }
        missing = [name for name in REQUIRED if name not in raw.batch.schema.names]
        if missing:
            raise InputError(f"required column missing: {', '.join(missing)}")
        rows = len(raw)
        if rows == 0:
            return Encoded(EventBatch.empty(), RejectList().table(), 0, np.empty(0, np.int64))
        work = _Work(columns, rows, self._tables(), self.pseudonyms)
        events = work.run()
        rejected = np.flatnonzero(work.problems.of_row)
        rejects = self._rejects(raw, work.problems, rejected)
        unknown_regions = work.unknown_regions
        numbers = np.arange(raw.first_row, raw.first_row + rows) if raw.rows is None else raw.rows
        if len(rejected):
            kept = np.flatnonzero(work.problems.of_row == 0)
            numbers = numbers[kept]
            events = events.take(kept)
            events.strings, events.string_rows = events.compact_strings(), None
        _name_nameless(events, work.tables.content)
        if len(events) + len(rejects) != rows:
            raise AssertionError(
                f"{raw.path}: {rows} rows in, {len(events)} events and {len(rejects)} rejects out"
            )
        return Encoded(events, rejects.table(), rows, numbers, unknown_regions)

    def _rejects(self, raw: RawBatch, problems: _Problems, rows: Int64) -> RejectList:
        rejects = RejectList()
        for index in rows.tolist():
            column, reason, expected = problems.kinds[problems.of_row[index]]
            detail = f"expected {expected}"
            if column in raw.batch.schema.names:
                try:
                    found = raw.batch.column(column)[index].as_py()
                except (UnicodeDecodeError, ValueError, OverflowError):
                    found = "<unreadable>"
                if found is not None:
                    shown = self.pseudonyms.mask(str(found)[:200])
                    detail = f"found {shown!r}, {detail}"
            text = None
            if self._raw_left > 0:
                self._raw_left -= 1
                text = raw_row(raw.batch, index, self.pseudonyms)
            rejects.add(raw.path, raw.row_number(index), column, reason, detail, text)
        return rejects


class _Work:
    """One batch on its way through the door."""

    def __init__(
        self, columns: dict[str, pa.Array], rows: int, tables: _Tables, pseudonyms: Pseudonyms
    ) -> None:
        self.columns = columns
        self.rows = rows
        self.tables = tables
        self.pseudonyms = pseudonyms
        self.problems = _Problems(rows)
        self.unknown_regions = 0
        self.extra = np.zeros(rows, np.uint64)

    def run(self) -> EventBatch:
        """Read all columns; rows with problems hold anything."""
        tables, problems, rows = self.tables, self.problems, self.rows
        kind = self._kinds()
        time = self._times("event_time", required=True)
        code = self._codes(kind)
        actor, actor_hash = self._parties("actor_id")
        problems.mark(actor < 0, "actor_id", "missing_actor", "the enterprise that scanned")
        source, _ = self._parties("from_id")
        target, _ = self._parties("to_id")
        source = np.where((source < 0) & _IS_OUTGOING[kind], actor, source)
        target = np.where((target < 0) & _IS_INCOMING[kind], actor, target)
        target[_IS_PERSON_SALE[kind]] = MISSING
        drug = self._interned("drug_id", tables.drugs)
        flags = np.zeros(rows, np.uint8)
        declared = drug >= 0
        flags[declared] |= b.DRUG_DECLARED
        drug = np.where(declared, drug, code.drug)
        platform = self._interned("platform_id", tables.platforms)
        shop = self._interned("shop_id", tables.shops)
        flags[(platform >= 0) | (shop >= 0)] |= b.ONLINE
        flags[time % b.DAY == 0] |= b.DATE_ONLY
        for name, bit in (("split_sale", b.SPLIT_SALE), ("gift", b.GIFT)):
            flags[self._truth(name)] |= bit
        production, _ = self._days("production_date")
        expiry, month_only = self._days("expiry_date")
        if month_only is not None:
            flags[month_only] |= b.EXPIRY_MONTH_ONLY
        quantity, stated = self._quantity()
        flags[stated] |= b.QUANTITY_STATED
        price = self._price()
        record_time = self._times("record_time", required=False)
        self._checked_only(flags)
        event_ids, event_key = self._hashed("event_id")
        bills, bill = self._hashed("bill_code")
        bill_key = np.empty(rows, np.uint64)
        with np.errstate(over="ignore"):
            combine(bill, actor_hash, bill_key)
        orders, order = self._hashed("order_code")
        buyers, buyer = self._hashed("buyer_id")
        _, voids = self._hashed("voids_event_id", keep=False)
        strings = pa.Table.from_arrays([event_ids, bills, orders, buyers], names=list(b.STRING_COLUMNS))
        return EventBatch(
            time=time, record_time=record_time, kind=kind, flags=flags,
            code_problem=code.problem, code=code.key, actor=actor, source=source, target=target,
            source_region=self._regions("from_region"), target_region=self._regions("to_region"),
            drug=drug, code_drug=code.drug,
            batch_no=self._interned("batch_no", tables.batches), production=production,
            expiry=expiry, quantity=quantity, price=price, bill=bill_key, order=order, buyer=buyer,
            platform=platform, shop=shop, voids=voids, event_key=event_key,
            content_key=self.extra, strings=strings,
        )  # fmt: skip

    def _text(self, name: str) -> pa.Array | None:
        array = self.columns.get(name)
        return None if array is None else as_text(array, name)

    def _column(self, name: str) -> TextColumn | None:
        array = self._text(name)
        return None if array is None else text_column(array)

    def _kinds(self) -> npt.NDArray[np.int8]:
        column = self._column("event_type")
        if column is None:
            kind = np.full(self.rows, MISSING, np.int8)
        else:
            kind = self.tables.kinds.payload(column, MISSING, np.int8)
        absent = kind < 0
        self.problems.mark(absent, "event_type", "missing_type", "an event type")
        kind[absent] = EventKind.UNKNOWN
        return kind

    def _times(self, name: str, *, required: bool) -> Int64:
        array = self.columns.get(name)
        if array is None:
            time = np.full(self.rows, MISSING_TIME, np.int64)
        else:
            time = self.tables.values.times(array, name)
        absent = time == MISSING_TIME
        bad = time == BAD
        self.problems.mark(bad, name, f"bad_{name}", TIME_FORMS)
        absurd = ~absent & ~bad & ((time < FIRST_TIME) | (time >= LAST_TIME))
        self.problems.mark(absurd, name, f"absurd_{name}", "a time from 2000 to 2099")
        if required:
            self.problems.mark(absent, name, f"missing_{name}", TIME_FORMS)
        return time

    def _codes(self, kind: npt.NDArray[np.int8]) -> Any:
        array = self._text("code")
        if array is None:
            array = pa.nulls(self.rows, pa.string())
        code = self.tables.codes.read(text_column(array))
        self.problems.mark(code.lost, "code", "lost_digits", "all digits of the code, as text")
        if code.absent.any():
            allowed = code.absent & _IS_CODELESS[kind]
            self.problems.mark(
                code.absent & ~allowed, "code", "missing_code", "a trace code (bills 106, 210: none)"
            )
            if allowed.any():
                code.key[allowed] = self.tables.codes.absent_key()
        return code

    def _parties(self, name: str) -> tuple[npt.NDArray[np.int32], UInt64]:
        column = self._column(name)
        if column is None:
            return np.full(self.rows, MISSING, np.int32), np.zeros(self.rows, np.uint64)
        if name == "actor_id":
            return self.tables.parties.payload_and_hash(column, MISSING, np.int32)
        return self.tables.parties.payload(column, MISSING, np.int32), np.empty(0, np.uint64)

    def _interned(self, name: str, table: TextTable) -> npt.NDArray[np.int32]:
        column = self._column(name)
        if column is None:
            return np.full(self.rows, MISSING, np.int32)
        return table.payload(column, MISSING, np.int32)

    def _regions(self, name: str) -> npt.NDArray[np.int16]:
        column = self._column(name)
        if column is None:
            return np.full(self.rows, MISSING, np.int16)
        # -2 tells "nothing stated" from "stated, and not in the table".
        region = self.tables.regions.payload(column, -2, np.int16)
        self.unknown_regions += int(np.count_nonzero(region == MISSING))
        return np.maximum(region, np.int16(MISSING))

    def _truth(self, name: str) -> Bool:
        array = self.columns.get(name)
        if array is None:
            return np.zeros(self.rows, np.bool_)
        values = self.tables.values.truth(array, name)
        self.problems.mark(values == BAD, name, f"bad_{name}", "true or false")
        return values == 1

    def _days(self, name: str) -> tuple[npt.NDArray[np.int32], Bool | None]:
        array = self.columns.get(name)
        if array is None:
            return np.full(self.rows, MISSING_DAY, np.int32), None
        days, month_only = self.tables.values.days(array, name)
        absent = days == MISSING_TIME
        # Years 1900 to 9999: "never expires" is written as 9999-12-31.
        bad = ~absent & ((days < -25_567) | (days > 2_932_896))
        self.problems.mark(bad, name, f"bad_{name}", DATE_FORMS)
        return np.where(absent | bad, MISSING_DAY, days).astype(np.int32), month_only

    def _whole(self, name: str, low: int, high: int, expected: str) -> tuple[Int64, Bool]:
        """Return whole numbers from ``low`` to ``high``, and which rows state one."""
        array = self.columns.get(name)
        if array is None:
            return np.zeros(self.rows, np.int64), np.zeros(self.rows, np.bool_)
        values = self.tables.values.whole(array, name)
        stated = values != MISSING_TIME
        wrong = stated & ((values < low) | (values > high))
        self.problems.mark(wrong & (values == BAD), name, f"bad_{name}", expected)
        self.problems.mark(wrong, name, f"absurd_{name}", expected)
        return np.where(stated & ~wrong, values, 0), stated

    def _quantity(self) -> tuple[npt.NDArray[np.int32], Bool]:
        expected = f"a whole number of packs from 1 to {MAXIMUM_QUANTITY}"
        values, stated = self._whole("quantity", 1, MAXIMUM_QUANTITY, expected)
        return np.where(stated, values, 1).astype(np.int32), stated

    def _price(self) -> npt.NDArray[np.int32]:
        array = self.columns.get("unit_price")
        if array is None:
            return np.full(self.rows, MISSING, np.int32)
        fen = self.tables.values.fen(array, "unit_price")
        absent = fen == MISSING_TIME
        expected = f"CNY per pack from 0 to {MAXIMUM_PRICE // 100}"
        self.problems.mark(fen == BAD, "unit_price", "bad_unit_price", expected)
        negative = (fen < 0) & ~absent
        self.problems.mark(negative, "unit_price", "negative_price", expected)
        self.problems.mark(fen > MAXIMUM_PRICE, "unit_price", "absurd_price", expected)
        return np.where(negative | absent | (fen > MAXIMUM_PRICE), MISSING, fen).astype(np.int32)

    def _checked_only(self, flags: npt.NDArray[np.uint8]) -> None:
        """Columns without a field in a batch: their values are checked and count as content."""
        for name in _EXTRA_TEXTS:
            _, hashes = self._hashed(name, keep=False)
            if name == "rx_no":
                flags[hashes != 0] |= b.PRESCRIPTION
            self._count_as_content(name, hashes)
        for name, low, high, expected in (
            ("pack_level", 1, 127, "a level from 1 (smallest pack) to 127"),
            ("receivable", 0, 2**31 - 1, "a whole number of packs"),
        ):
            values, stated = self._whole(name, low, high, expected)
            if name in self.columns:
                self._count_as_content(name, np.where(stated, values + 1, 0).astype(np.uint64))
        array = self.columns.get("temperature")
        if array is not None:
            milli = self.tables.values.milli(array, "temperature")
            stated = milli != MISSING_TIME
            wrong = stated & (np.abs(milli) > 300_000)  # BAD is far beyond
            expected = "degrees Celsius from -300 to 300"
            self.problems.mark(wrong, "temperature", "bad_temperature", expected)
            shifted = np.where(stated, milli + 1_000_000, 0)
            self._count_as_content("temperature", shifted.astype(np.uint64))

    def _count_as_content(self, name: str, hashes: UInt64) -> None:
        if name in self.columns:
            with np.errstate(over="ignore"):
                _add_extra(self.extra, hashes, np.uint64(hash64(name)))

    def _hashed(self, name: str, *, keep: bool = True) -> tuple[pa.Array, UInt64]:
        """Return a column as plain Arrow strings (null unless ``keep``) and its 64-bit hashes."""
        array = self._text(name)
        if array is None:
            return (pa.nulls(self.rows, pa.string()) if keep else None), np.zeros(self.rows, np.uint64)
        if name == "buyer_id":
            array = self._without_persons(array)
        column = text_column(array)
        hashes = np.empty(column.values, np.uint64)
        with np.errstate(over="ignore"):
            blanks = hash_texts(column.offsets, column.data, column.valid, hashes)
        if column.indices is not None:
            hashes = np.append(hashes, np.uint64(0))[column.indices]
        if not keep:
            return None, hashes
        return self._plain(array, name, trim=blanks > 0), hashes

    def _plain(self, array: pa.Array, name: str, *, trim: bool) -> pa.Array:
        """Return text as ``string``; rows whose bytes are no UTF-8 are refused."""
        if array.type != pa.string():
            array = array.cast(pa.string())
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            unreadable = np.array([not _readable(value) for value in array])
            self.problems.mark(unreadable, name, "not_utf8", "UTF-8 text")
            array = pc.if_else(pa.array(unreadable), pa.scalar(None, pa.string()), array)
        return pc.utf8_trim(array, characters=_BLANKS) if trim else array

    def _without_persons(self, array: pa.Array) -> pa.Array:
        """Replace values that look like numbers of persons by pseudonyms, each value once."""
        column = text_column(array)
        marked = np.empty(column.values, np.bool_)
        if not maybe_personal(column.offsets, column.data, column.valid, marked):
            return array
        if column.indices is None:
            array = array.dictionary_encode()
            column = text_column(array)
            marked = np.empty(column.values, np.bool_)
            maybe_personal(column.offsets, column.data, column.valid, marked)
        texts = [column.text(i) for i in range(column.values)]
        for i in np.flatnonzero(marked).tolist():
            if looks_personal(texts[i]):
                texts[i] = self.pseudonyms.of(texts[i])
        return pa.DictionaryArray.from_arrays(array.indices, pa.array(texts, pa.string()))


def _readable(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _name_nameless(events: EventBatch, content: ContentHasher) -> None:
    """Give rows without an id one made of their content: ``content:`` and 16 hex digits."""
    nameless = events.event_key == 0
    if not nameless.any():
        return
    rows = np.flatnonzero(nameless)
    keys = content.keys(events, rows)
    events.event_key[rows] = keys
    digits = keys.astype(">u8").tobytes().hex()
    names = pa.array(
        [f"content:{digits[i : i + 16]}" for i in range(0, len(digits), 16)], pa.string()
    )
    given = events.strings.column("event_id").combine_chunks()
    named = pc.replace_with_mask(given, pa.array(nameless), names)
    events.strings = events.strings.set_column(0, "event_id", named)


def content_key_rows(
    events: EventBatch, rows: Int64 | None, vocabulary: Vocabulary
) -> UInt64:
    """Return content keys of ``rows`` of ``events`` (all if None), see :class:`ContentHasher`."""
    return ContentHasher(vocabulary).keys(events, rows)


__all__ = ["Encoded", "Encoder", "InputError", "RawBatch", "content_key_rows", "wrong_type"]
