from __future__ import annotations

import pytest

from tests.detectors.conftest import SALE, SHIP, numbers
from trace_engine.detectors.recalled_sale import RecalledSale, RecalledSaleParameters
from trace_engine.detectors.remote_dispatch import RemoteDispatch, RemoteDispatchParameters
from trace_engine.detectors.unlicensed_party import UnlicensedParty
from trace_engine.events.batch import ONLINE
from trace_engine.events.kinds import EventKind

RECEIPT = EventKind.PURCHASE_RECEIPT
P = UnlicensedParty.parameters()


def event(kind=SHIP, source="W", target="X", time="2025-03-01 10:00", **more):
    return {"kind": kind, "source": source, "target": target, "time": time, **more}


def names(data, column):
    return [data.vocabulary.parties.text(p) for p in column]


# ---- unlicensed_party


def test_who_answers_for_an_unlicensed_party(world):
    world.enterprises = {
        "W": {"type": "wholesaler", "licence_no": "京AA0100001", "region": "110105"},
        "X": {"type": "pharmacy", "licence_no": "京DA0100001", "region": "110105"},
        "N": {"type": "pharmacy", "region": "110105"},
        "H": {"type": "public_hospital", "region": "110105"},
    }
    events = [
        event(),  # licensed to licensed
        event(target="H"),  # a hospital needs no drug licence
        event(source="ghost"),
        event(kind=RECEIPT, source="ghost"),
        event(target="ghost"),
        event(kind=RECEIPT, target="N"),
        event(kind=SALE, source="N", target=None),
        event(kind=RECEIPT, source="ghost", target="N"),
        event(kind=RECEIPT, source=None),
        event(kind=EventKind.RETURN_SHIPMENT, source="ghost"),
    ]
    data = world.slice(events)
    verdict = UnlicensedParty().judge(data, P)
    assert numbers(data, verdict.hits) == [2, 3, 4, 5, 6, 7]
    hits = verdict.hits
    assert names(data, hits.subject) == ["ghost", "X", "W", "W", "N", "N"]
    assert names(data, hits.counterparty) == ["X", "ghost", "ghost", "N", "", "ghost"]
    assert hits.severity.tolist() == pytest.approx([0.8, 0.9, 0.8, 0.6, 0.6, 0.9])
    assert names(data, hits.extra["unlicensed_party"]) == [
        "ghost",
        "ghost",
        "ghost",
        "N",
        "N",
        "ghost",
    ]
    assert verdict.judged == 8
    assert verdict.skipped == {"no_giver": 1}


def test_no_registry_says_nothing_of_licences(world):
    data = world.slice([event(), event(kind=SALE, target=None)])
    verdict = UnlicensedParty().judge(data, P)
    assert verdict.hits is None
    assert verdict.skipped == {"no_registry": 2}


def test_a_registry_without_licence_numbers_says_nothing_of_them(world):
    world.enterprises = {"W": {"type": "wholesaler"}, "X": {"type": "pharmacy"}}
    assert UnlicensedParty().judge(world.slice([event()]), P).hits is None


# ---- remote_dispatch


def remote(world, events, level="city"):
    data = world.slice(events)
    verdict = RemoteDispatch().judge(data, RemoteDispatchParameters(level=level))
    return data, verdict


def test_remote_dispatch_by_level(world):
    world.enterprises = {
        # Chaoyang in Beijing; Jinan and a warehouse in Qingdao; one known by province only.
        "B": {"type": "pharmacy", "region": "110105"},
        "J": {"type": "wholesaler", "region": "370102", "warehouse_regions": "370202"},
        "Q": {"type": "wholesaler", "region": "370000"},
    }
    events = [
        event(source="B", source_region="110105"),
        event(source="B", source_region="110108"),  # another district of the same municipality
        event(source="B", source_region="130102"),
        event(source="J", source_region="370203"),  # another district of the warehouse's city
        event(source="J", source_region="370602"),  # Yantai: same province, no premises
        event(source="J", source_region="370000"),  # a province alone contradicts nothing
        event(source="Q", source_region="370602"),
        event(source="Q", source_region="410102"),
        event(source="J", source_region="410102") | {"kind": EventKind.DIRECT_SHIPMENT},
        event(kind=SALE, source="B", target=None, source_region="440103", flags=ONLINE),
        event(kind=SALE, source="B", target=None, source_region="110105"),
    ]
    data, verdict = remote(world, events)
    assert numbers(data, verdict.hits) == [2, 4, 7, 9]
    assert verdict.hits.severity.tolist() == pytest.approx([0.8, 0.5, 0.8, 0.8])
    assert verdict.judged == 10
    km = dict(zip(verdict.hits.seq.tolist(), verdict.hits.observed.tolist(), strict=True))
    assert 1800 < km[9] < 2000  # Beijing to Guangzhou
    assert len(set(verdict.hits.group.tolist())) == 4


def test_remote_dispatch_county_and_province_levels(world):
    world.enterprises = {"J": {"type": "wholesaler", "region": "370102"}}
    events = [
        event(source="J", source_region="370102"),
        event(source="J", source_region="370103"),
        event(source="J", source_region="370100"),  # the city alone contradicts nothing
        event(source="J", source_region="370602"),
        event(source="J", source_region="410102"),
    ]
    data, verdict = remote(world, events, "county")
    assert numbers(data, verdict.hits) == [1, 3, 4]
    assert verdict.hits.severity.tolist() == pytest.approx([0.3, 0.5, 0.8])


def test_remote_dispatch_province_level(world):
    world.enterprises = {"J": {"type": "wholesaler", "region": "370102"}}
    events = [
        event(source="J", source_region="370602"),
        event(source="J", source_region="410102"),
        event(source="J"),
        event(source="stranger", source_region="410102"),
    ]
    data, verdict = remote(world, events, "province")
    assert numbers(data, verdict.hits) == [1]
    assert verdict.skipped == {"no_region_stated": 1, "unknown_seller": 1}


# ---- recalled_sale


def test_recalled_sale_after_grace(world):
    world.recalls = [
        {"drug_id": "D", "batch_no": "A1", "level": "1", "effective": "2025-03-01"},
        {"drug_id": "E", "level": "3", "effective": "2025-03-01"},
    ]
    events = [
        event(drug="D", batch="A1", time="2025-03-02 23:59"),  # within the day and 24 hours
        event(drug="D", batch="A1", time="2025-03-03"),
        event(drug="D", batch="A2", time="2025-03-09 09:00"),
        event(drug="D", time="2025-03-09 09:00"),
        event(drug="E", batch="Z", time="2025-03-04 23:59"),
        event(kind=SALE, drug="E", batch="Z", time="2025-03-05 00:01", target=None),
        event(drug="D", batch="A1", time="2025-03-09 09:00") | {"kind": EventKind.RECALL_SHIPMENT},
        event(drug="D", batch="A1", time="2025-03-09 09:00") | {"kind": EventKind.RETURN_SHIPMENT},
        event(drug="F", batch="A1", time="2025-03-09 09:00"),
    ]
    data = world.slice(events)
    verdict = RecalledSale().judge(data, RecalledSaleParameters())
    assert numbers(data, verdict.hits) == [1, 5]
    assert verdict.hits.severity.tolist() == pytest.approx([1.0, 0.6])
    assert verdict.hits.observed.tolist() == pytest.approx([2.0, 4 + 1 / 1440])
    assert verdict.hits.threshold.tolist() == pytest.approx([2.0, 4.0])
    assert verdict.judged == 6
    assert verdict.skipped == {"no_batch_no": 1}


def test_recalled_sale_range(world):
    world.enterprises = {
        "J": {"type": "wholesaler", "region": "370102"},
        "Y": {"type": "wholesaler", "region": "370602"},
        "B": {"type": "wholesaler", "region": "110105"},
        "S": {"type": "wholesaler", "region": "370000"},
    }
    world.recalls = [
        {"drug_id": "D", "level": "2", "effective": "2025-03-01", "range_region": "370000"},
        {"drug_id": "E", "level": "2", "effective": "2025-03-01", "range_region": "370100"},
    ]
    events = [
        event(source=seller, drug=drug, time="2025-03-20 09:00", **more)
        for drug in ("D", "E")
        for seller, more in (
            ("J", {}),
            ("Y", {}),
            ("B", {}),
            ("S", {}),
            ("ghost", {}),
            ("ghost", {"source_region": "370103"}),
        )
    ]
    data = world.slice(events)
    verdict = RecalledSale().judge(data, RecalledSaleParameters())
    assert numbers(data, verdict.hits) == [0, 1, 3, 5, 6, 11]
    assert verdict.skipped == {"no_region": 3}
    assert verdict.judged == 9


def test_no_recalls_no_verdict(world):
    verdict = RecalledSale().judge(world.slice([event()]), RecalledSaleParameters())
    assert verdict.skipped == {"no_registry": 1}
