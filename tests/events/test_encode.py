from __future__ import annotations

import json
import threading
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_engine.events import batch as b
from trace_engine.events.batch import COLUMN_TYPES, DAY, EventBatch, Vocabulary
from trace_engine.events.encode import Encoded, Encoder
from trace_engine.events.findings import REJECTS
from trace_engine.events.hashing import bill_key, hash64
from trace_engine.events.kinds import EventKind
from trace_engine.events.raw import InputError, RawBatch
from trace_engine.events.schema import LABEL, LABELS

CODE = "80217619000000001003"
CARD = "11010519491231002X"
DAY_ONE = int(np.datetime64("2024-05-10", "D").astype(int))


def regions(code: str) -> int:
    return {"110105": 7, "440100": 9}.get(code, -1)


def encoder() -> Encoder:
    return Encoder(Vocabulary(), key=b"secret", region_index=regions)


def encode(columns: dict[str, Any], by: Encoder | None = None) -> tuple[Encoded, Vocabulary]:
    by = by or encoder()
    encoded = by.encode(RawBatch(pa.RecordBatch.from_pydict(columns), "dump.csv"))
    return encoded, by.vocabulary


def rows(count: int = 1, **columns: Any) -> dict[str, Any]:
    """Return ``count`` good rows; ``columns`` replace or add lists of values."""
    base: dict[str, Any] = {
        "event_id": [f"E{i}" for i in range(count)],
        "event_time": ["2024-05-10 08:30:00"] * count,
        "event_type": ["sale_shipment"] * count,
        "code": [CODE] * count,
        "actor_id": ["A"] * count,
    }
    return {**base, **columns}


def test_every_column_arrives() -> None:
    encoded, words = encode(
        rows(
            record_time=["2024-05-11"], from_id=["F"], to_id=["T"], from_region=["110105"],
            to_region=["440100"], drug_id=["D"], batch_no=["B"], production_date=[date(2024, 1, 1)],
            expiry_date=["2026-02"], quantity=[3], unit_price=[Decimal("12.50")], bill_code=["X1"],
            order_code=["O1"], platform_id=["P"], shop_id=["S"], buyer_id=["u1"], rx_no=["R"],
            split_sale=[True], gift=["是"], voids_event_id=["E9"],
        )
    )  # fmt: skip
    e = encoded.batch
    assert encoded.rows_in == len(e) == 1
    assert encoded.batch.origin.tolist() == [1]
    time = DAY_ONE * DAY + (8 * 60 + 30) * 60 * 1_000_000
    assert e.time.tolist() == [time]
    assert e.record_time.tolist() == [(DAY_ONE + 1) * DAY]
    assert e.kind.tolist() == [EventKind.SALE_SHIPMENT]
    assert words.code_text(int(e.code[0])) == CODE
    names = [words.parties.text(int(x[0])) for x in (e.actor, e.source, e.target)]
    assert names == ["A", "F", "T"]
    assert (e.source_region[0], e.target_region[0]) == (7, 9)
    assert words.drugs.text(int(e.drug[0])) == "D"
    assert words.drugs.text(int(e.code_drug[0])) == "8021761"
    assert words.batches.text(int(e.batch_no[0])) == "B"
    assert e.production[0] == np.datetime64("2024-01-01", "D").astype(int)
    assert e.expiry[0] == np.datetime64("2026-02-28", "D").astype(int)
    assert (e.quantity[0], e.price[0]) == (3, 1250)
    assert e.bill[0] == bill_key("A", "X1")
    assert (e.order[0], e.buyer[0]) == (hash64("O1"), hash64("u1"))
    assert words.platforms.text(int(e.platform[0])) == "P"
    assert words.shops.text(int(e.shop[0])) == "S"
    assert (e.voids[0], e.event_key[0]) == (hash64("E9"), hash64("E0"))
    assert e.flags[0] == (
        b.SPLIT_SALE | b.GIFT | b.ONLINE | b.PRESCRIPTION | b.EXPIRY_MONTH_ONLY | b.DRUG_DECLARED
        | b.QUANTITY_STATED
    )  # fmt: skip
    assert e.strings.to_pylist() == [
        {"event_id": "E0", "bill_code": "X1", "order_code": "O1", "buyer_id": "u1"}
    ]


def test_what_is_not_stated_is_missing() -> None:
    encoded, words = encode(rows(event_time=["20240510"]))
    e = encoded.batch
    assert e.flags[0] == b.DATE_ONLY
    assert (e.record_time[0], e.production[0], e.expiry[0]) == (
        b.MISSING_TIME, b.MISSING_DAY, b.MISSING_DAY,
    )  # fmt: skip
    assert words.parties.text(int(e.source[0])) == "A"  # an outgoing bill names no giver
    assert (e.target[0], e.source_region[0], e.target_region[0]) == (-1, -1, -1)
    assert words.drugs.text(int(e.drug[0])) == "8021761"
    assert (e.batch_no[0], e.quantity[0], e.price[0]) == (-1, 1, -1)
    assert (e.bill[0], e.order[0], e.buyer[0], e.voids[0], e.content_key[0]) == (0, 0, 0, 0, 0)
    assert (e.platform[0], e.shop[0]) == (-1, -1)


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [("sale_shipment", "A", ""), ("purchase_receipt", "", "A"), ("pack", "", "")],
)
def test_parties_default_to_the_actor(kind: str, source: str, target: str) -> None:
    encoded, words = encode(rows(event_type=[kind], from_id=[""], to_id=[None]))
    assert words.parties.text(int(encoded.batch.source[0])) == source
    assert words.parties.text(int(encoded.batch.target[0])) == target


def test_a_sale_to_a_person_has_no_receiver() -> None:
    encoded, words = encode(rows(event_type=["321"], to_id=[CARD]))
    assert encoded.batch.target[0] == -1
    assert CARD not in words.parties.values


@pytest.mark.parametrize(
    "kinds", [["201", " Sale_Shipment ", "销售出库", "201.0"], [201] * 4, [201.0] * 4]
)
def test_types_by_name_title_and_number(kinds: list[Any]) -> None:
    encoded, _ = encode(rows(4, event_type=kinds))
    assert encoded.batch.kind.tolist() == [EventKind.SALE_SHIPMENT] * 4


def test_unknown_types_are_kept() -> None:
    encoded, _ = encode(rows(2, event_type=["105", "something"]))
    assert encoded.batch.kind.tolist() == [EventKind.UNKNOWN] * 2


def test_quantity_only_bills_need_no_code() -> None:
    encoded, words = encode(rows(3, event_type=["106", "210", "201"], code=[None, "", CODE]))
    assert encoded.rejects.num_rows == 0
    first, second, third = encoded.batch.code.tolist()
    assert first == second != third
    assert words.code_text(first) == ""


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("code", None, "missing_code"),
        ("code", "  ", "missing_code"),
        ("code", "8.02176E+19", "lost_digits"),
        ("actor_id", "", "missing_actor"),
        ("event_time", None, "missing_event_time"),
        ("event_time", "soon", "bad_event_time"),
        ("event_time", "1999-12-31 23:59:59", "absurd_event_time"),
        ("event_time", "2100-01-01", "absurd_event_time"),
        ("event_type", None, "missing_type"),
        ("record_time", "then", "bad_record_time"),
        ("record_time", "1970-01-01", "absurd_record_time"),
        ("unit_price", "-0.01", "negative_price"),
        ("unit_price", "10000000.01", "absurd_price"),
        ("unit_price", "cheap", "bad_unit_price"),
        ("quantity", "0", "absurd_quantity"),
        ("quantity", "-2", "absurd_quantity"),
        ("quantity", "10000001", "absurd_quantity"),
        ("quantity", "1.5", "bad_quantity"),
        ("production_date", "2024-02-30", "bad_production_date"),
        ("expiry_date", "never", "bad_expiry_date"),
        ("split_sale", "maybe", "bad_split_sale"),
        ("gift", "2", "bad_gift"),
        ("pack_level", "0", "absurd_pack_level"),
        ("pack_level", "top", "bad_pack_level"),
        ("receivable", "-1", "absurd_receivable"),
        ("temperature", "cold", "bad_temperature"),
        ("temperature", "1000", "bad_temperature"),
    ],
)
def test_absurd_rows_are_rejected_with_a_reason(
    column: str, value: str | None, reason: str
) -> None:
    good = {"record_time": "2024-05-10", "unit_price": "1", "quantity": "1", "gift": "0",
            "production_date": "2024-01-01", "expiry_date": "2026-01", "split_sale": "0",
            "pack_level": "1", "receivable": "1", "temperature": "4"}.get(column)  # fmt: skip
    base = rows(3)
    values = base.get(column, [good] * 3)
    base[column] = [values[0], value, values[2]]
    encoded, _ = encode(base)
    assert encoded.rejects.schema == REJECTS
    (reject,) = encoded.rejects.to_pylist()
    assert (reject["file"], reject["row"], reject["column"]) == ("dump.csv", 2, column)
    assert reject["reason"] == reason
    assert "expected" in reject["detail"]
    assert json.loads(reject["raw"])["event_id"] == "E1"
    assert encoded.batch.strings.column("event_id").to_pylist() == ["E0", "E2"]
    assert encoded.batch.origin.tolist() == [1, 3]


def test_limits_themselves_are_fine() -> None:
    encoded, _ = encode(
        rows(
            2, event_time=["2000-01-01", "2099-12-31 23:59:59"], unit_price=["0", "10000000"],
            quantity=["1", "10000000"], expiry_date=["1900-01-01", "9999-12-31"],
        )
    )  # fmt: skip
    assert encoded.rejects.num_rows == 0
    assert encoded.batch.price.tolist() == [0, 10**9]


def test_the_first_problem_of_a_row_is_named() -> None:
    encoded, _ = encode(rows(event_time=["x"], code=[""], actor_id=[None]))
    assert encoded.rejects.column("reason").to_pylist() == ["bad_event_time"]


def test_rows_without_an_id_are_named_by_their_content() -> None:
    ids = ["E1", None, "", None]
    encoded, _ = encode(rows(4, event_id=ids, to_id=["T", "T", "T", "U"]))
    names = encoded.batch.strings.column("event_id").to_pylist()
    keys = encoded.batch.event_key.tolist()
    assert names[0] == "E1"
    assert names[1] == names[2] == f"content:{keys[1]:016x}"
    assert keys[1] == keys[2] != keys[3]
    without, _ = encode(
        {k: v for k, v in rows(4, to_id=["T", "T", "T", "U"]).items() if k != "event_id"}
    )
    assert without.batch.event_key.tolist()[1:] == keys[1:]


def test_numbers_of_persons_never_arrive() -> None:
    phone = "13812345678"
    buyers = [CARD, CARD, "u1", None, phone]
    base = rows(
        5, event_type=["321"] * 4 + ["x"], buyer_id=buyers, doctor_id=[CARD] * 5,
        operator_id=[phone] * 5, code=[CODE] * 4 + [None], from_id=[CARD] * 5,
    )  # fmt: skip
    for shape in (pa.string(), pa.large_string(), LABEL):
        columns = {**base, "buyer_id": pa.array(buyers).cast(shape)}
        encoded, words = encode(columns)
        texts = encoded.batch.strings.column("buyer_id").to_pylist()
        assert texts[0] == texts[1]
        assert texts[0].startswith("p:")
        assert texts[2:] == ["u1", None]
        assert encoded.batch.buyer.tolist() == [hash64(t or "") for t in texts]
        everything = json.dumps(
            [encoded.rejects.to_pylist(), encoded.batch.strings.to_pylist(), words.parties.values]
        )
        assert encoded.rejects.num_rows == 1
        assert CARD not in everything
        assert phone not in everything


def test_a_shifted_row_does_not_leak_through_its_reason() -> None:
    encoded, _ = encode(rows(unit_price=[CARD]))
    (reject,) = encoded.rejects.to_pylist()
    assert CARD not in json.dumps(reject)


def test_unknown_regions_are_counted() -> None:
    encoded, _ = encode(rows(4, from_region=["110105", "000000", None, "广东"]))
    assert encoded.batch.source_region.tolist() == [7, -1, -1, -1]
    assert encoded.unknown_regions == 2


def test_the_shipped_regions_are_the_default() -> None:
    from trace_engine.registry.regions import load_regions

    encoded, _ = encode(rows(from_region=["440106"]), Encoder(Vocabulary(), key=b"k"))
    assert load_regions().code(int(encoded.batch.source_region[0])) == "440106"


def test_outer_blanks_do_not_count() -> None:
    encoded, words = encode(
        rows(2, actor_id=["A", " A\t"], event_id=["E1", " E1 "], code=[CODE, f"{CODE}\t"])
    )
    assert words.parties.values == ["A"]
    assert encoded.batch.strings.column("event_id").to_pylist() == ["E1", "E1"]
    assert len(set(encoded.batch.code.tolist())) == 1


def test_bytes_that_are_no_text_are_refused() -> None:
    bad = _raw_strings([b"E\xff", b"E2"])
    encoded, _ = encode(rows(2, event_id=bad))
    assert encoded.rejects.column("reason").to_pylist() == ["not_utf8"]
    assert encoded.batch.strings.column("event_id").to_pylist() == ["E2"]


def _raw_strings(values: list[bytes]) -> pa.Array:
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers())


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("code", [8.02e19], "double"),
        ("code", [[CODE]], "list"),
        ("actor_id", [1.5], "fractions"),
        ("event_time", [1.5], "timestamp"),
        ("event_time", [True], "timestamp"),
        ("quantity", [date(2024, 1, 1)], "whole numbers"),
        ("unit_price", [True], "decimal"),
        ("expiry_date", [1.5], "date"),
        ("gift", [date(2024, 1, 1)], "true or false"),
        ("bill_code", [{"a": 1}], "struct"),
        ("batch_no", [b"\xff"], "UTF-8"),
    ],
)
def test_types_that_can_never_be_right(column: str, values: list[Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        encode(rows(**{column: values}))
    assert str(caught.value).startswith(f"dump.csv: column {column}")
    assert caught.value.zh
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named() -> None:
    base = rows()
    del base["actor_id"]
    with pytest.raises(InputError, match="actor_id"):
        encode(base)


def test_numbers_as_ids() -> None:
    encoded, words = encode(rows(2, actor_id=[17, 18], to_id=[5.0, None], from_region=[440100, 1]))
    assert words.parties.values == ["17", "18", "5"]
    assert encoded.batch.source_region.tolist() == [9, -1]


def test_nothing_in_nothing_out() -> None:
    encoded, _ = encode({name: pa.array([], pa.string()) for name in rows()})
    assert (len(encoded.batch), encoded.rejects.num_rows, encoded.rows_in) == (0, 0, 0)


def assert_normal(events: EventBatch) -> None:
    for name, dtype in COLUMN_TYPES.items():
        column = getattr(events, name)
        assert column.dtype == dtype, name
        assert column.flags.c_contiguous, name
        assert column.flags.writeable, name
        assert column.shape == (len(events),), name
    assert events.strings.schema.types == [pa.string()] * 4
    assert events.strings.num_rows == len(events)


value = st.sampled_from(
    ["", " ", "201", "321", CODE, "A", "B", "2024-05-10", "2024-05-10 08:00:00", "1", "2.5", "是",
     CARD, "110105", "x" * 40, "中文", "-1", "106", "E1"]
)  # fmt: skip
names = [
    "event_id", "event_time", "record_time", "event_type", "code", "actor_id", "from_id", "to_id",
    "from_region", "drug_id", "batch_no", "production_date", "expiry_date", "quantity",
    "unit_price", "bill_code", "order_code", "buyer_id", "split_sale", "voids_event_id", "rx_no",
    "pack_level", "temperature", "shop_id", "platform_id", "device_id",
]  # fmt: skip
tables = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), value) for name in names}), max_size=12
)


@settings(max_examples=80)
@given(records=tables, cut=st.integers(0, 12))
def test_every_row_arrives_or_is_rejected_in_any_shape(
    records: list[dict[str, str | None]], cut: int
) -> None:
    schema = pa.schema([(name, pa.string()) for name in names])
    plain = pa.RecordBatch.from_pylist(records, schema)
    large = pa.RecordBatch.from_arrays([c.cast(pa.large_string()) for c in plain.columns], names)
    labels = pa.RecordBatch.from_arrays(
        [
            c.dictionary_encode() if n in LABELS else c
            for n, c in zip(names, plain.columns, strict=True)
        ],
        names,
    )
    by = encoder()
    whole = by.encode(RawBatch(plain, "f"))
    assert whole.rows_in == len(whole.batch) + whole.rejects.num_rows == len(records)
    assert_normal(whole.batch)
    for batch in (large, labels):
        other = by.encode(RawBatch(batch, "f"))
        assert_same(other.batch, whole.batch)
        assert other.rejects.equals(whole.rejects)
    cut = min(cut, len(records))
    raw = RawBatch(plain, "f")
    parts = [by.encode(raw.slice(0, cut)), by.encode(raw.slice(cut, len(records)))]
    assert_same(EventBatch.concat([p.batch for p in parts]), whole.batch)
    assert pa.concat_tables([p.rejects for p in parts]).equals(whole.rejects)
    assert (
        EventBatch.concat([p.batch for p in parts]).origin.tolist() == whole.batch.origin.tolist()
    )


def assert_same(first: EventBatch, second: EventBatch) -> None:
    for name in COLUMN_TYPES:
        assert getattr(first, name).tolist() == getattr(second, name).tolist(), name
    assert first.strings.to_pydict() == second.strings.to_pydict()


def test_one_encoder_serves_several_threads() -> None:
    by = encoder()
    count = 4000
    parts = [
        rows(
            count,
            code=[f"8{(i * 7 + t) % 900 * 10**13 + i:019d}" for i in range(count)],
            actor_id=[f"A{(i + t) % 700}" for i in range(count)],
            batch_no=[f"B{(i * 3 + t) % 500}" for i in range(count)],
        )
        for t in range(4)
    ]
    done: dict[int, EventBatch] = {}

    def work(t: int) -> None:
        done[t] = encode(parts[t], by)[0].batch

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = by.vocabulary
    for t, part in enumerate(parts):
        events = done[t]
        assert [words.parties.text(i) for i in events.actor.tolist()] == part["actor_id"]
        assert [words.batches.text(i) for i in events.batch_no.tolist()] == part["batch_no"]
        assert [words.code_text(k) for k in events.code.tolist()] == part["code"]
    assert len(words.parties) == len(set(words.parties.values)) == 700


def test_numbers_of_persons_and_their_pseudonyms_are_the_same_content() -> None:
    """A row without an id is named by its content, be it masked on the way or here."""
    by = encoder()
    row = {"event_time": ["2026-01-01 10:00:00"], "event_type": ["dispensing"], "code": [CODE]}
    row |= {"actor_id": ["A"]}
    for name in ("operator_id", "pharmacist_id", "doctor_id", "buyer_id"):
        plain, _ = encode({**row, name: [CARD]}, by)
        masked, _ = encode({**row, name: [by.pseudonyms.of(CARD)]}, by)
        assert plain.batch.event_key.tolist() == masked.batch.event_key.tolist(), name


def test_a_temperature_beyond_all_numbers_is_refused() -> None:
    columns = {"event_time": ["2026-01-01"], "event_type": [321], "code": [CODE], "actor_id": ["A"]}
    encoded, _ = encode({**columns, "temperature": pa.array([2**60])})
    assert encoded.rejects["column"].to_pylist() == ["temperature"]
