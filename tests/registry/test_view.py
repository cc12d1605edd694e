"""The registry as arrays by vocabulary id."""

from __future__ import annotations

import datetime as dt
import itertools

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.events.batch import Vocabulary
from trace_engine.reference import ReferenceData
from trace_engine.registry import CLASS_BITS, EnterpriseType, Registry, RegistryView
from trace_engine.registry.prepare import pack_capacity
from trace_engine.registry.regions import load_regions

REGIONS = load_regions()
CODE = "91110108551385082Q"


def market() -> Registry:
    enterprises = pa.table(
        {
            "enterprise_id": ["W", "H", "S", "P", "Q", "X"],
            "uscc": [CODE, None, None, "91370102MA3C000001", "91370102MA3C000001", None],
            "type": ["wholesaler", "chain_hq", "chain_store", "pharmacy", "pharmacy", None],
            "region": ["110108", "370102", "370303", "370202", "370203", None],
            "warehouse_regions": ["110105;310101", "370202", None, "370202", None, "440106"],
            "group_id": [None, "G", "G", None, None, None],
            "licence_no": ["京AA010000001", "鲁BA1", "鲁CA1", None, "鲁DA1", None],
            "name": ["甲", "乙", None, "丙", "丁", "戊"],
        }
    )
    drugs = pa.table(
        {
            "drug_id": ["8000001", "6970593810109", "8000002", "8000002"],
            "generic_name": ["阿莫西林胶囊", "布洛芬片", "旧名", "新名"],
            "classes": ["rx;high_value", "otc_a;orphan", "rx", "psychotropic_2"],
            "pack_spec": ["24粒/盒", "12片×2板/盒", None, "10袋/盒"],
            "valid_from": [None, None, dt.date(2020, 1, 1), dt.date(2024, 7, 1)],
        }
    )
    recalls = pa.table(
        {
            "drug_id": ["8000001", "8000001", "9"],
            "batch_no": ["B1", None, "B2"],
            "level": ["一级", "2", None],
            "range_region": ["370000;110108", "全国", "370102"],
            "effective": [dt.date(2026, 1, 2), dt.date(2026, 1, 1), dt.date(2026, 2, 1)],
        }
    )
    return Registry({"enterprises": enterprises, "drugs": drugs, "recalls": recalls})


def dispatch(view: RegistryView, party: int) -> set[int]:
    start, stop = view.dispatch_offsets[party], view.dispatch_offsets[party + 1]
    return set(view.dispatch_cities[start:stop].tolist())


def cities(*codes: str) -> set[int]:
    return {int(REGIONS.city[REGIONS.index(code)]) for code in codes}


def test_parties() -> None:
    vocabulary = Vocabulary()
    unknown, w, h, s, p, q, x = vocabulary.parties.ids(["?", "W", "H", "S", "P", "Q", "X"])
    view = market().view(vocabulary)
    assert view.party_known.tolist() == [False, True, True, True, True, True, True]
    assert view.party_type[[unknown, w, h, s, p, x]].tolist() == [
        0,
        EnterpriseType.WHOLESALER,
        EnterpriseType.CHAIN_HQ,
        EnterpriseType.CHAIN_STORE,
        EnterpriseType.PHARMACY,
        0,
    ]
    assert view.party_province.tolist() == [0, 11, 37, 37, 37, 37, 0]
    assert view.party_region[unknown] == view.party_region[x] == -1
    assert view.party_region_code(s) == "370303"
    assert view.party_region_code(unknown) == view.party_region_code(-1) == ""
    assert view.party_group[h] == view.party_group[s] >= 0
    assert view.party_group[p] == view.party_group[q] >= 0  # one legal person
    assert view.party_group[p] != view.party_group[h]
    assert view.party_group[w] == view.party_group[unknown] == -1
    assert view.party_single_place.tolist() == [False, False, False, True, True, True, False]
    assert view.party_licensed.tolist() == [False, True, True, True, False, True, False]
    assert dispatch(view, unknown) == set()
    assert dispatch(view, w) == cities("110108", "310101")
    assert dispatch(view, s) == cities("370303", "370102", "370202")  # its head office's too
    assert dispatch(view, p) == cities("370202")
    assert dispatch(view, x) == cities("440106")
    assert view.party_name(w) == "甲"
    assert view.party_name(s) == "S"
    assert view.party_name(unknown) == "?"
    assert view.party_name(-1) == "未知企业"
    assert view.enterprise_type_name(h) == "药品零售连锁总部"
    assert view.enterprise_type_name(h, "en") == "pharmacy chain headquarters"
    assert view.enterprise_type_name(unknown) == "类型未知"


codes = st.sampled_from(["370102", "370202", "110108", "429004", "999999"])
rows = st.lists(
    st.tuples(
        st.sampled_from([None, "chain_hq", "chain_store", "pharmacy"]),
        st.none() | codes,
        st.none() | st.lists(codes, max_size=3).map(";".join),
        st.sampled_from([None, "G1", "G2", "G3"]),
        st.sampled_from([None, None, "U1", "U2"]),
    ),
    max_size=12,
)


@given(rows)
def test_groups_and_places_against_a_plain_telling(
    enterprises: list[tuple[str | None, ...]],
) -> None:
    kinds, regions, warehouses, groups, persons = (
        [row[i] for row in enterprises] for i in range(5)
    )
    ids = [f"E{i}" for i in range(len(enterprises))]
    texts = pa.string()
    table = pa.table(
        {
            "enterprise_id": pa.array(ids, texts),
            "type": pa.array(kinds, texts),
            "region": pa.array(regions, texts),
            "warehouse_regions": pa.array(warehouses, texts),
            "group_id": pa.array(groups, texts),
            "uscc": pa.array(persons, texts),
        }
    )
    vocabulary = Vocabulary()
    vocabulary.parties.ids(ids)
    view = Registry({"enterprises": table}).view(vocabulary)

    together = nx.Graph()
    for i in range(len(ids)):
        for label in (groups[i], persons[i]):
            if label:
                together.add_edge(i, label)

    def related(a: int, b: int) -> bool:
        return a in together and b in together and nx.has_path(together, a, b)

    def places(i: int) -> set[str]:
        own = [regions[i], *(warehouses[i] or "").split(";")]
        return {code for code in own if code and code != "999999"}

    for i in range(len(ids)):
        alone = persons[i] is None or persons.count(persons[i]) == 1
        assert (view.party_group[i] < 0) == (groups[i] is None and alone)
        for j in range(len(ids)):
            if i != j:
                same = view.party_group[i] >= 0 and view.party_group[i] == view.party_group[j]
                assert same == related(i, j)
        chiefs = [j for j in range(len(ids)) if kinds[j] == "chain_hq" and related(i, j)]
        expected = set().union(places(i), *(places(j) for j in chiefs))
        assert dispatch(view, i) == cities(*expected)
        own_code = regions[i] if regions[i] != "999999" else None
        assert view.party_single_place[i] == (own_code is not None and places(i) == {own_code})


def test_an_enterprise_may_be_named_by_its_credit_code() -> None:
    vocabulary = Vocabulary()
    by_code, shared = vocabulary.parties.ids([CODE, "91370102MA3C000001"])
    view = market().view(vocabulary)
    assert view.party_name(by_code) == "甲"
    assert not view.party_known[shared]  # two enterprises have it


def test_without_licence_column_nobody_is_unlicensed() -> None:
    vocabulary = Vocabulary()
    vocabulary.parties.ids(["A", "B"])
    view = Registry({"enterprises": pa.table({"enterprise_id": ["A"]})}).view(vocabulary)
    assert view.party_licensed.tolist() == [True, False]


def test_drugs() -> None:
    vocabulary = Vocabulary()
    a, b, c, unknown = vocabulary.drugs.ids(["8000001", "06970593810109", "8000002", "?"])
    view = market().view(vocabulary)
    assert view.drug_known.tolist()[:4] == [True, True, True, False]
    assert view.drug_classes[a] == view.class_mask("rx", "high_value")
    assert view.drug_classes[b] == view.class_mask("otc_a", "orphan")
    assert view.class_bits["orphan"] == len(CLASS_BITS)
    assert view.drug_classes[c] == view.class_mask("psychotropic_2")  # the latest row
    assert view.drug_classes[unknown] == 0
    assert view.drug_capacity.tolist()[:4] == [24, 24, 10, -1]
    assert view.drug_name(c) == "新名"
    assert view.drug_name(unknown) == "?"
    assert view.drug_name(-1) == "未知药品"
    assert view.class_mask("no such class") == 0


def test_recalls_are_sorted_and_interned() -> None:
    vocabulary = Vocabulary()
    view = market().view(vocabulary)
    recalls, drug = view.recalls, vocabulary.drugs.find("8000001")
    batch = vocabulary.batches.find("B1")
    day = (dt.date(2026, 1, 1) - dt.date(1970, 1, 1)).days
    rows = list(
        zip(
            recalls.drug.tolist(), recalls.batch.tolist(), recalls.effective.tolist(),
            recalls.level.tolist(), recalls.province.tolist(), recalls.city.tolist(), strict=True,
        )
    )  # fmt: skip
    assert rows[:3] == [
        (drug, -1, day, 2, 0, -1),
        (drug, batch, day + 1, 1, 11, int(REGIONS.city[REGIONS.index("110108")])),
        (drug, batch, day + 1, 1, 37, -1),
    ]
    assert rows == sorted(rows)
    assert rows[3][3:] == (0, 37, 3701)


ARRAYS = (
    "party_known", "party_row", "party_region", "party_province", "party_type", "party_group",
    "party_single_place", "party_licensed", "dispatch_offsets", "dispatch_regions",
    "dispatch_cities", "drug_known", "drug_row", "drug_classes", "drug_capacity",
    "drug_packs_in_case",
)  # fmt: skip


@given(
    st.lists(st.sampled_from(["W", "H", "S", "P", "Q", "X", CODE, "?", "!"]), max_size=30),
    st.lists(st.sampled_from(["8000001", "8000002", "06970593810109", "?"]), max_size=10),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_refreshing_step_by_step_is_viewing_at_once(
    parties: list[str], drugs: list[str], cuts: list[int]
) -> None:
    grown = Vocabulary()
    stepwise = MARKET.view(grown)
    edges = [0, *sorted(cuts), 30]
    for start, stop in itertools.pairwise(edges):
        grown.parties.ids(parties[start:stop])
        grown.drugs.ids(drugs[start:stop])
        stepwise.refresh()
        before = stepwise.party_known
        stepwise.refresh()
        assert stepwise.party_known is before  # nothing new: nothing done
    at_once = MARKET.view(grown)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(stepwise, name), getattr(at_once, name), name)
        assert getattr(stepwise, name).flags.c_contiguous
        assert getattr(stepwise, name).dtype == getattr(at_once, name).dtype


MARKET = market()


def test_an_empty_registry_knows_nobody() -> None:
    vocabulary = Vocabulary()
    vocabulary.parties.ids(["A"])
    view = Registry().view(vocabulary)
    assert view.party_known.tolist() == [False]
    assert view.dispatch_offsets.tolist() == [0, 0]
    assert len(view.recalls) == 0
    assert not view.has("enterprises")


@pytest.mark.parametrize(
    ("spec", "units"),
    [
        ("24片/盒", 24),
        ("12片×2板/盒", 24),
        ("0.25g*12粒*2板", 24),
        ("10ml×6支", 6),
        ("10袋/盒", 10),
        ("100ml/瓶", 100),
        ("100片/瓶", 100),
        ("100ml*1瓶", 100),
        ("1贴×6贴", 1),
        ("300片/瓶", -1),
        ("盒", -1),
        ("", -1),
        (None, -1),
    ],
)
def test_pack_capacity(spec: str | None, units: int) -> None:
    assert pack_capacity(spec) == units


def test_what_came_after_the_last_refresh_has_a_name() -> None:
    """Who reads along must not refresh: the engine is using the arrays."""
    vocabulary = Vocabulary()
    view = RegistryView(market(), vocabulary)
    known = market().table("enterprises")
    assert known is not None
    text = known["enterprise_id"][0].as_py()
    party, drug = vocabulary.parties.id(text), vocabulary.drugs.id("never registered")
    before = len(view.party_row)
    assert party >= before or view.party_row[party] >= 0
    late = vocabulary.parties.id("never seen")
    assert view.party_name(late) == "never seen"
    assert view.party_name(party) == known["name"][0].as_py()
    assert view.party_region_code(late) == ""
    assert view.drug_name(drug) == "never registered"
    assert len(view.party_row) == before


def test_reference_arrays_follow_the_view_and_not_the_vocabulary() -> None:
    """A word that comes between a refresh and the next look must not freeze the arrays."""
    vocabulary = Vocabulary()
    view = RegistryView(market(), vocabulary)
    reference = ReferenceData(view)
    vocabulary.parties.id("comes while a slice is judged")
    reference.arrays()
    view.refresh()
    assert len(reference.arrays()[1]) == len(view.party_province) == len(vocabulary.parties)
