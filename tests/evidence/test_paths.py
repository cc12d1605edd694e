"""The way of a pack as one line: each hop once, however it was recorded."""

from typing import Any

import pytest

from trace_engine.evidence.paths import path_text

NAMES = {"A": "甲药业", "B": "乙批发", "C": "丙药房"}
PLACES = {"A": "320100", "B": "340100", "C": "340100", "": ""}


def event(kind: str, source: str, target: str, day: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "time": f"2026-03-{day:02d} 09:00:00",
        "source": source,
        "target": target,
        "source_name": NAMES.get(source, ""),
        "target_name": NAMES.get(target, ""),
        "source_region": PLACES[source],
        "target_region": PLACES[target],
    }


SHIPPED = event("sale_shipment", "A", "B", 1)
RECEIVED = event("purchase_receipt", "A", "B", 2)
ON = event("sale_shipment", "B", "C", 3)
SOLD = event("retail_sale", "C", "", 5)


def test_a_receipt_adds_nothing_to_its_shipment() -> None:
    assert path_text([SHIPPED, RECEIVED, SOLD], "zh") == (
        "甲药业〔江苏省〕 → 乙批发〔安徽省〕（2026-03-01）；丙药房〔安徽省〕 → 个人（2026-03-05）"
    )


def test_no_arrow_without_a_record() -> None:
    bought = event("purchase_receipt", "B", "C", 4)
    assert path_text([SHIPPED, bought, SOLD], "en") == (
        "甲药业 [江苏省] → 乙批发 [安徽省] (2026-03-01) → 丙药房 [安徽省] (2026-03-04) → "
        "a person (2026-03-05)"
    )
    # Sold twice: nobody brought it from the first buyer to the second shop.
    again = event("retail_sale", "B", "", 8)
    assert path_text([SOLD, again], "zh") == (
        "丙药房〔安徽省〕 → 个人（2026-03-05）；乙批发〔安徽省〕 → 个人（2026-03-08）"
    )
    returned = event("consumer_return", "", "C", 7)
    assert path_text([SOLD, returned], "zh") == (
        "丙药房〔安徽省〕 → 个人（2026-03-05） → 丙药房〔安徽省〕（退货 2026-03-07）"
    )


def test_the_end_of_a_pack_is_told() -> None:
    scrapped = {**event("destruction", "C", "", 6), "kind_zh": "销毁出库"}
    sold_on = event("retail_sale", "C", "", 9)
    assert path_text([ON, scrapped, sold_on], "zh").endswith(
        "丙药房〔安徽省〕（2026-03-03） → 销毁出库（2026-03-06）；丙药房〔安徽省〕 → 个人（2026-03-09）"
    )


def test_a_shipment_adds_nothing_to_its_receipt() -> None:
    assert path_text([RECEIVED, SHIPPED], "en") == path_text([RECEIVED], "en")


def test_a_late_receipt_does_not_take_the_pack_back() -> None:
    assert path_text([SHIPPED, ON, RECEIVED], "zh") == path_text([SHIPPED, ON], "zh")


def test_a_receipt_alone_is_a_hop() -> None:
    assert path_text([RECEIVED], "zh") == "甲药业〔江苏省〕 → 乙批发〔安徽省〕（2026-03-02）"


@pytest.mark.parametrize("receipts", [True, False])
def test_the_same_two_may_deal_twice(receipts: bool) -> None:
    back = [event("return_shipment", "B", "A", 3), event("return_receipt", "B", "A", 4)]
    again = [event("sale_shipment", "A", "B", 6), event("purchase_receipt", "A", "B", 7)]
    way = [SHIPPED, RECEIVED, *back, *again]
    if not receipts:
        way = way[::2]
    text = path_text(way, "zh")
    assert text.split(" → ") == [
        "甲药业〔江苏省〕",
        "乙批发〔安徽省〕（2026-03-01）",
        "甲药业〔江苏省〕（退货 2026-03-03）",
        "乙批发〔安徽省〕（2026-03-06）",
    ]
