"""One raw batch on its way through the door: its columns read, checked and put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.events import batch as b
from trace_engine.events.batch import MISSING, MISSING_DAY, MISSING_TIME, EventBatch, new_columns
from trace_engine.events.complete import KIND_BITS, add_extra, complete
from trace_engine.events.hashing import combine, hash64, hash_texts
from trace_engine.events.kinds import CODELESS, EventKind
from trace_engine.events.parsing import BAD, DATE_FORMS, FIRST_TIME, LAST_TIME, TIME_FORMS
from trace_engine.events.privacy import Pseudonyms, looks_personal, maybe_personal
from trace_engine.events.raw import PERSONAL_COLUMNS
from trace_engine.events.tables import Problems, Tables
from trace_engine.events.texts import TextColumn, TextTable, gather, text_column
from trace_engine.events.values import as_text, count_outside, to_int32

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]

MAXIMUM_PRICE = 10_000_000 * 100  # fen; dearer is a slip of the keyboard (CAR-T costs 1.3 million)
MAXIMUM_QUANTITY = 10_000_000  # packs in one row
# Years 1900 to 9999: "never expires" is written as 9999-12-31.
FIRST_DAY, LAST_DAY = -25_567, 2_932_896

_BLANKS = "".join(map(chr, range(33)))
_NOTHING: Bool = np.empty(0, np.bool_)

_IS_CODELESS = np.array([kind in CODELESS for kind in EventKind])

# Columns kept as hashes or numbers where a source has them. All count as content: two rows with
# one id that differ in them are in conflict.
_HASHED = {
    "rx_no": "prescription", "invoice_no": "invoice", "contact_id": "contact",
    "address_id": "address", "buyer_device_id": "buyer_device",
}  # fmt: skip
_INTERNED = {
    "device_id": "devices", "operator_id": "operators", "pharmacist_id": "pharmacists",
    "doctor_id": "doctors",
}  # fmt: skip


class Assembly:
    """Reads the columns of one batch. ``problems`` says which rows must not be taken.

    ``texts``: columns that are read already and hold no numbers of persons (``RawBatch.texts``).
    """

    def __init__(
        self,
        columns: dict[str, pa.Array],
        rows: int,
        tables: Tables,
        pseudonyms: Pseudonyms,
        texts: Mapping[str, TextColumn],
    ) -> None:
        self.columns = columns
        self.texts = texts
        self.rows = rows
        self.tables = tables
        self.pseudonyms = pseudonyms
        self.problems = Problems(rows)
        self.unknown_regions = 0  # rows that state a region no code book knows
        self.out = new_columns(rows)
        self.optional: dict[str, npt.NDArray[Any]] = {}
        self._extra = self.out["content_key"]
        self._extra[:] = 0

    def run(self) -> EventBatch:
        """Read all columns; rows with problems hold anything."""
        tables, out = self.tables, self.out
        kind = self._kinds()
        time = self._times("event_time", "time", required=True)
        self._codes(kind)
        actor, actor_hash = self._actor()
        source = self._interned("from_id", "source", tables.parties)
        target = self._interned("to_id", "target", tables.parties)
        drug = self._interned("drug_id", "drug", tables.drugs)
        platform = self._interned("platform_id", "platform", tables.platforms)
        shop = self._interned("shop_id", "shop", tables.shops)
        self._interned("batch_no", "batch_no", tables.batches)
        split_sale, gift = self._truth("split_sale"), self._truth("gift")
        self._days("production_date", "production")
        month_only = self._days("expiry_date", "expiry")
        stated = self._quantity()
        self._price()
        self._times("record_time", "record_time", required=False)
        prescription = self._optional_columns()
        complete(
            kind, time, KIND_BITS, actor, source, target, drug, out["code_drug"], platform, shop,
            prescription, split_sale, gift, month_only, stated, out["flags"],
        )  # fmt: skip
        strings = [
            self._hashed("event_id", "event_key"),
            self._hashed("bill_code", "bill"),
            self._hashed("order_code", "order"),
            self._hashed("buyer_id", "buyer"),
        ]
        with np.errstate(over="ignore"):
            combine(out["bill"], actor_hash, out["bill"])
        self._regions("from_region", "source_region")
        self._regions("to_region", "target_region")
        out["voids"][:] = self._hashes("voids_event_id")
        names = list(b.STRING_COLUMNS)
        table = pa.Table.from_arrays(strings, names=names)
        return EventBatch(**out, strings=table, optional=self.optional)

    def _text(self, name: str) -> pa.Array | None:
        array = self.columns.get(name)
        return None if array is None else as_text(array, name)

    def _column(self, name: str) -> TextColumn | None:
        column = self.texts.get(name)
        if column is not None:
            return column
        array = self._text(name)
        return None if array is None else text_column(array)

    def _kinds(self) -> npt.NDArray[np.int8]:
        column = self._column("event_type")
        kind: npt.NDArray[np.int8] = self.out["kind"]
        if column is None:
            kind[:] = MISSING
        else:
            self.tables.kinds.payload(column, MISSING, np.int8, kind)
        absent = kind < 0
        if absent.any():
            self.problems.mark(absent, "event_type", "missing_type", "an event type")
            kind[absent] = EventKind.UNKNOWN
        return kind

    def _times(self, name: str, field: str, *, required: bool) -> Int64:
        array = self.columns.get(name)
        time: Int64 = self.out[field]
        if array is None:
            time[:] = MISSING_TIME
        else:
            self.tables.values.times(array, name, time)
        if not count_outside(time, FIRST_TIME, LAST_TIME - 1, not required):
            return time
        absent, bad = time == MISSING_TIME, time == BAD
        self.problems.mark(bad, name, f"bad_{name}", TIME_FORMS)
        absurd = ~absent & ((time < FIRST_TIME) | (time >= LAST_TIME))
        self.problems.mark(absurd, name, f"absurd_{name}", "a time from 2000 to 2099")
        if required:
            self.problems.mark(absent, name, f"missing_{name}", TIME_FORMS)
        return time

    def _codes(self, kind: npt.NDArray[np.int8]) -> None:
        column = self._column("code")
        if column is None:
            column = text_column(pa.nulls(self.rows, pa.string()))
        out = self.out
        key = out["code"]
        code = self.tables.codes.read(column, key, out["code_problem"], out["code_drug"])
        if code.key is not key:
            key[:], out["code_problem"][:], out["code_drug"][:] = code.key, code.problem, code.drug
        self.problems.mark(code.lost, "code", "lost_digits", "all digits of the code, as text")
        if code.absent.any():
            allowed = code.absent & _IS_CODELESS[kind]
            wrong = code.absent & ~allowed
            self.problems.mark(wrong, "code", "missing_code", "a trace code (bills 106, 210: none)")
            if allowed.any():
                key[allowed] = self.tables.codes.absent_key()

    def _actor(self) -> tuple[Int32, UInt64]:
        column = self._column("actor_id")
        actor: Int32 = self.out["actor"]
        if column is None:
            actor[:] = MISSING
            hashes = np.zeros(self.rows, np.uint64)
        else:
            _, hashes = self.tables.parties.payload_and_hash(column, MISSING, np.int32, actor)
        self.problems.mark(actor < 0, "actor_id", "missing_actor", "the enterprise that scanned")
        return actor, hashes

    def _interned(self, name: str, field: str, table: TextTable) -> Int32:
        column = self._column(name)
        numbers: Int32 = self.out[field]
        if column is None:
            numbers[:] = MISSING
        else:
            table.payload(column, MISSING, np.int32, numbers)
        return numbers

    def _regions(self, name: str, field: str) -> None:
        column = self._column(name)
        region = self.out[field]
        if column is None:
            region[:] = MISSING
            return
        # -2 tells "nothing stated" from "stated, and not in the table".
        self.tables.regions.payload(column, -2, np.int16, region)
        self.unknown_regions += int(np.count_nonzero(region == MISSING))
        np.maximum(region, np.int16(MISSING), out=region)

    def _truth(self, name: str) -> Bool:
        array = self.columns.get(name)
        if array is None or array.null_count == len(array):
            return _NOTHING
        values = self.tables.values.truth(array, name)
        self.problems.mark(values == BAD, name, f"bad_{name}", "true or false")
        said: Bool = values == 1
        return said

    def _days(self, name: str, field: str) -> Bool:
        array = self.columns.get(name)
        out = self.out[field]
        if array is None:
            out[:] = MISSING_DAY
            return _NOTHING
        days, month_only = self.tables.values.days(array, name)
        if to_int32(days, FIRST_DAY, LAST_DAY, int(MISSING_DAY), out):
            wrong = (days != MISSING_TIME) & ((days < FIRST_DAY) | (days > LAST_DAY))
            self.problems.mark(wrong, name, f"bad_{name}", DATE_FORMS)
        return month_only

    def _whole(
        self, name: str, low: int, high: int, missing: int, expected: str, out: Int32
    ) -> Int64 | None:
        """Write whole numbers from ``low`` to ``high``; return them as read (None: no column)."""
        array = self.columns.get(name)
        if array is None:
            out[:] = missing
            return None
        values = self.tables.values.whole(array, name)
        if to_int32(values, low, high, missing, out):
            self.problems.mark(values == BAD, name, f"bad_{name}", expected)
            wrong = (values != MISSING_TIME) & ((values < low) | (values > high))
            self.problems.mark(wrong, name, f"absurd_{name}", expected)
        return values

    def _quantity(self) -> Bool:
        expected = f"a whole number of packs from 1 to {MAXIMUM_QUANTITY}"
        quantity = self.out["quantity"]
        values = self._whole("quantity", 1, MAXIMUM_QUANTITY, 1, expected, quantity)
        return _NOTHING if values is None else values != MISSING_TIME

    def _price(self) -> None:
        out = self.out["price"]
        array = self.columns.get("unit_price")
        if array is None:
            out[:] = MISSING
            return
        fen = self.tables.values.fen(array, "unit_price")
        if to_int32(fen, 0, MAXIMUM_PRICE, MISSING, out):
            expected = f"CNY per pack from 0 to {MAXIMUM_PRICE // 100}"
            self.problems.mark(fen == BAD, "unit_price", "bad_unit_price", expected)
            negative = (fen < 0) & (fen != MISSING_TIME)
            self.problems.mark(negative, "unit_price", "negative_price", expected)
            self.problems.mark(fen > MAXIMUM_PRICE, "unit_price", "absurd_price", expected)

    def _optional_columns(self) -> UInt64:
        """Read what many sources lack; all of it counts as content. Returns hashes of ``rx_no``."""
        prescription = np.zeros(self.rows, np.uint64)
        self._parents()
        for name, field in _HASHED.items():
            if name in self.columns:
                hashes = self._hashes(name)
                self._count_as_content(name, hashes)
                self._keep(field, hashes)
                if field == "prescription":
                    prescription = hashes
        for name, table in _INTERNED.items():
            array = self._text(name) if name in self.columns else None
            if array is not None and array.null_count < self.rows:
                # Before hashing: a pseudonym is the same content.
                _, column = self._without_persons(array, name)
                numbers, hashes = getattr(self.tables, table).payload_and_hash(
                    column, MISSING, np.int32
                )
                self._count_as_content(name, hashes)
                self._keep(name.removesuffix("_id"), numbers)
        self._source_bills()
        for name, low, high, expected in (
            ("pack_level", 1, 127, "a level from 1 (smallest pack) to 127"),
            ("receivable", 0, 2**31 - 1, "a whole number of packs"),
        ):
            if name not in self.columns:
                continue
            aside = np.empty(self.rows, np.int32)
            values = self._whole(name, low, high, MISSING, expected, aside)
            if values is not None:
                stated = np.where(values != MISSING_TIME, values + 1, 0)
                self._count_as_content(name, stated.view(np.uint64))
                self._keep(name, aside.astype(b.OPTIONAL_COLUMNS[name].dtype, copy=False))
        self._temperatures()
        return prescription

    def _keep(self, field: str, values: npt.NDArray[Any]) -> None:
        """Hold an optional column if some row states it."""
        if (values != b.OPTIONAL_COLUMNS[field].missing).any():
            self.optional[field] = values

    def _parents(self) -> None:
        array = self._text("parent_code") if "parent_code" in self.columns else None
        if array is None or array.null_count == self.rows:
            return
        self._count_as_content("parent_code", self._hashes("parent_code"))
        code = self.tables.codes.read(text_column(array))
        # A parent that lost digits (3.5E+19) names no code: the row is still an event.
        self._keep("parent", np.where(code.absent | code.lost, b.NO_CODE, code.key))

    def _source_bills(self) -> None:
        array = self._text("from_bill_code") if "from_bill_code" in self.columns else None
        if array is None or array.null_count == self.rows:
            return
        bills = self._hashes("from_bill_code")
        self._count_as_content("from_bill_code", bills)
        column = self._column("from_id")
        if column is None:
            return
        _, supplier = self.tables.parties.payload_and_hash(column, MISSING, np.int32)
        found = np.empty(self.rows, np.uint64)
        with np.errstate(over="ignore"):
            combine(bills, supplier, found)
        self._keep("source_bill", np.where(supplier == 0, np.uint64(0), found))

    def _temperatures(self) -> None:
        array = self.columns.get("temperature")
        if array is None:
            return
        milli = self.tables.values.milli(array, "temperature")
        stated = milli != MISSING_TIME
        wrong = stated & (np.abs(milli) > 300_000)  # BAD is far beyond
        expected = "degrees Celsius from -300 to 300"
        self.problems.mark(wrong, "temperature", "bad_temperature", expected)
        shifted = np.where(stated, milli + 1_000_000, 0)
        self._count_as_content("temperature", shifted.view(np.uint64))
        known = stated & ~wrong
        self._keep("temperature", np.where(known, milli, MISSING_DAY).astype(np.int32))

    def _count_as_content(self, name: str, hashes: UInt64) -> None:
        with np.errstate(over="ignore"):
            add_extra(self._extra, hashes, np.uint64(hash64(name)))

    def _hashes(self, name: str) -> UInt64:
        """Return 64-bit hashes of a text column, 0 where it says nothing."""
        array = self._text(name)
        if array is None or array.null_count == self.rows:
            return np.zeros(self.rows, np.uint64)
        return _hash_column(self._without_persons(array, name)[1])[0]

    def _hashed(self, name: str, field: str) -> pa.Array:
        """Return a column as plain Arrow strings; its 64-bit hashes are written."""
        array = self._text(name)
        if array is None or array.null_count == self.rows:
            self.out[field][:] = 0
            return pa.nulls(self.rows, pa.string())
        array, column = self._without_persons(array, name)
        _, blanks = _hash_column(column, self.out[field])
        if array.type != pa.string():
            array = array.cast(pa.string())
        if not column.is_ascii():
            array = self._only_utf8(array, name)
        return pc.utf8_trim(array, characters=_BLANKS) if blanks else array

    def _only_utf8(self, array: pa.Array, name: str) -> pa.Array:
        """Refuse rows whose bytes are no UTF-8."""
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            unreadable = np.array([not _readable(value) for value in array])
            self.problems.mark(unreadable, name, "not_utf8", "UTF-8 text")
            return pc.if_else(pa.array(unreadable), pa.scalar(None, pa.string()), array)
        return array

    def _without_persons(self, array: pa.Array, name: str) -> tuple[pa.Array, TextColumn]:
        """Return a column and how kernels read it, numbers of persons replaced by pseudonyms."""
        known = self.texts.get(name)
        if known is not None:
            return array, known
        column = text_column(array)
        if name not in PERSONAL_COLUMNS:
            return array, column
        marked = np.empty(column.values, np.bool_)
        if not maybe_personal(column.offsets, column.data, column.valid, marked):
            return array, column
        if column.indices is None:  # each value once
            array = array.dictionary_encode()
            column = text_column(array)
            marked = np.empty(column.values, np.bool_)
            maybe_personal(column.offsets, column.data, column.valid, marked)
        texts = [column.text(i) for i in range(column.values)]
        for i in np.flatnonzero(marked).tolist():
            if looks_personal(texts[i]):
                texts[i] = self.pseudonyms.of(texts[i])
        array = pa.DictionaryArray.from_arrays(array.indices, pa.array(texts, pa.string()))
        return array, text_column(array)


def _hash_column(column: TextColumn, out: UInt64 | None = None) -> tuple[UInt64, int]:
    """Return hashes of the rows of a column (in ``out``), and how many texts have outer blanks."""
    hashes = out
    if hashes is None or column.indices is not None:
        hashes = np.empty(column.values, np.uint64)
    with np.errstate(over="ignore"):
        blanks = hash_texts(column.offsets, column.data, column.valid, hashes)
    return gather(hashes, column.indices, 0, out), blanks


def _readable(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
