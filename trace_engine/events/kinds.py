"""Event types: names of the contract, their MSFX bill numbers, and what each does to custody.

An :class:`EventKind` is stored in a batch as one ``int8``. Its :class:`Role` says which rule of
custody applies; no other module asks for bill numbers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Role(IntEnum):
    """What an event does to ownership, possession and life of a code."""

    NONE = 0  # counted and kept, no effect on the code's state
    ORIGIN = 1  # the actor brought the code into being: it owns it
    SHIP = 2  # a sale of goods to another enterprise: the receiver becomes owner, pending
    RECEIVE = 3  # receipt of goods bought: confirms or makes the owner
    RETURN_SHIP = 4  # goods go back: ownership moves back, never a hop
    RETURN_RECEIVE = 5
    TRANSFER_SHIP = 6  # possession only, inside one enterprise or group
    TRANSFER_RECEIVE = 7
    PERSON_SALE = 8  # sold, injected or dispensed to a person
    CONSUMER_RETURN = 9  # a person brings the pack back
    DESTROY = 10  # destroyed, scrapped or sampled out: the code is dead
    RECALL_SHIP = 11  # recalled goods on their way back: dead for trade
    RECALL_RECEIVE = 12
    STOCK_GAIN = 13  # stock-taking found it: possession
    STOCK_CHANGE = 14  # loss, damage, rework: no effect on ownership, a scan at a place
    VOID = 15  # cancels the event named by voids_event_id


class EventKind(IntEnum):
    """Code of an event type inside a batch (``int8``)."""

    UNKNOWN = 0
    PRODUCTION_RECEIPT = 1
    PURCHASE_RECEIPT = 2
    RETURN_RECEIPT = 3
    TRANSFER_RECEIPT = 4
    REMNANT_RECEIPT = 5
    SUPPLY_RECEIPT = 6
    RECALL_RECEIPT = 7
    GIFT_RECEIPT = 8
    STOCK_GAIN = 9
    SCRAP_RECEIPT = 10
    OTHER_RECEIPT = 11
    CONSUMER_RETURN = 12
    SALE_SHIPMENT = 13
    RETURN_SHIPMENT = 14
    TRANSFER_SHIPMENT = 15
    REWORK_SHIPMENT = 16
    DESTRUCTION = 17
    SAMPLING = 18
    DIRECT_SHIPMENT = 19
    PRODUCTION_SHIPMENT = 20
    SUPPLY_SHIPMENT = 21
    REMNANT_SHIPMENT = 22
    RECALL_SHIPMENT = 23
    GIFT_SHIPMENT = 24
    STOCK_LOSS = 25
    DAMAGE = 26
    SCRAP = 27
    OTHER_SHIPMENT = 28
    DIRECT_RETURN = 29
    RETAIL_SALE = 30
    VACCINATION = 31
    DISPENSING = 32
    COMMISSIONING = 33
    PACK = 34
    UNPACK = 35
    CODE_REPLACEMENT = 36
    VERIFICATION = 37
    VOID = 38


class KindInfo(NamedTuple):
    """One row of the table of event types."""

    kind: EventKind
    name: str
    bill_type: int | None
    role: Role
    title_zh: str
    physical: bool  # a scan of goods at a place (counts for travel)


_K, _R = EventKind, Role

KINDS: tuple[KindInfo, ...] = (
    KindInfo(_K.UNKNOWN, "unknown", None, _R.NONE, "未知类型", False),
    KindInfo(_K.PRODUCTION_RECEIPT, "production_receipt", 101, _R.ORIGIN, "生产入库", True),
    KindInfo(_K.PURCHASE_RECEIPT, "purchase_receipt", 102, _R.RECEIVE, "采购入库", True),
    KindInfo(_K.RETURN_RECEIPT, "return_receipt", 103, _R.RETURN_RECEIVE, "退货入库", True),
    KindInfo(_K.TRANSFER_RECEIPT, "transfer_receipt", 104, _R.TRANSFER_RECEIVE, "调拨入库", True),
    KindInfo(_K.REMNANT_RECEIPT, "remnant_receipt", 106, _R.NONE, "零头入库", False),
    KindInfo(_K.SUPPLY_RECEIPT, "supply_receipt", 107, _R.RECEIVE, "供应入库", True),
    KindInfo(_K.RECALL_RECEIPT, "recall_receipt", 108, _R.RECALL_RECEIVE, "召回入库", True),
    KindInfo(_K.GIFT_RECEIPT, "gift_receipt", 110, _R.RECEIVE, "赠品入库", True),
    KindInfo(_K.STOCK_GAIN, "stock_gain", 111, _R.STOCK_GAIN, "盘盈入库", True),
    KindInfo(_K.SCRAP_RECEIPT, "scrap_receipt", 112, _R.DESTROY, "报废入库", True),
    KindInfo(_K.OTHER_RECEIPT, "other_receipt", 113, _R.RECEIVE, "其他入库", True),
    KindInfo(
        _K.CONSUMER_RETURN, "consumer_return", 116, _R.CONSUMER_RETURN, "消费者退货入库", True
    ),
    KindInfo(_K.SALE_SHIPMENT, "sale_shipment", 201, _R.SHIP, "销售出库", True),
    KindInfo(_K.RETURN_SHIPMENT, "return_shipment", 202, _R.RETURN_SHIP, "退货出库", True),
    KindInfo(_K.TRANSFER_SHIPMENT, "transfer_shipment", 203, _R.TRANSFER_SHIP, "调拨出库", True),
    KindInfo(_K.REWORK_SHIPMENT, "rework_shipment", 204, _R.STOCK_CHANGE, "返工出库", True),
    KindInfo(_K.DESTRUCTION, "destruction", 205, _R.DESTROY, "销毁出库", True),
    KindInfo(_K.SAMPLING, "sampling", 206, _R.DESTROY, "抽检出库", True),
    KindInfo(_K.DIRECT_SHIPMENT, "direct_shipment", 207, _R.SHIP, "直调出库", False),
    KindInfo(_K.PRODUCTION_SHIPMENT, "production_shipment", 208, _R.SHIP, "生产出库", True),
    KindInfo(_K.SUPPLY_SHIPMENT, "supply_shipment", 209, _R.SHIP, "供应出库", True),
    KindInfo(_K.REMNANT_SHIPMENT, "remnant_shipment", 210, _R.NONE, "零头出库", False),
    KindInfo(_K.RECALL_SHIPMENT, "recall_shipment", 211, _R.RECALL_SHIP, "召回出库", True),
    KindInfo(_K.GIFT_SHIPMENT, "gift_shipment", 212, _R.SHIP, "赠品出库", True),
    KindInfo(_K.STOCK_LOSS, "stock_loss", 214, _R.STOCK_CHANGE, "盘亏出库", True),
    KindInfo(_K.DAMAGE, "damage", 215, _R.STOCK_CHANGE, "损坏出库", True),
    KindInfo(_K.SCRAP, "scrap", 216, _R.DESTROY, "报废出库", True),
    KindInfo(_K.OTHER_SHIPMENT, "other_shipment", 217, _R.SHIP, "其他出库", True),
    KindInfo(_K.DIRECT_RETURN, "direct_return", 237, _R.RETURN_SHIP, "直调退货", False),
    KindInfo(_K.RETAIL_SALE, "retail_sale", 321, _R.PERSON_SALE, "零售出库", True),
    KindInfo(_K.VACCINATION, "vaccination", 322, _R.PERSON_SALE, "疫苗接种", True),
    KindInfo(_K.DISPENSING, "dispensing", 323, _R.PERSON_SALE, "领药出库", True),
    KindInfo(_K.COMMISSIONING, "commissioning", None, _R.ORIGIN, "赋码激活", True),
    KindInfo(_K.PACK, "pack", None, _R.NONE, "装箱关联", False),
    KindInfo(_K.UNPACK, "unpack", None, _R.NONE, "拆箱解绑", False),
    KindInfo(_K.CODE_REPLACEMENT, "code_replacement", None, _R.NONE, "换码", False),
    KindInfo(_K.VERIFICATION, "verification", None, _R.NONE, "查询验证", False),
    KindInfo(_K.VOID, "void", None, _R.VOID, "作废冲红", False),
)

# Quantity-only bills (106, 210) carry no code; every other type needs one.
CODELESS = frozenset({EventKind.REMNANT_RECEIPT, EventKind.REMNANT_SHIPMENT})

# Parties: for an outgoing event the giver defaults to the actor, for an incoming one the receiver.
OUTGOING = frozenset(
    k.kind
    for k in KINDS
    if k.role
    in {_R.SHIP, _R.RETURN_SHIP, _R.TRANSFER_SHIP, _R.PERSON_SALE, _R.RECALL_SHIP, _R.STOCK_CHANGE}
    or k.kind in {_K.DESTRUCTION, _K.SAMPLING, _K.SCRAP, _K.REMNANT_SHIPMENT}
)
INCOMING = frozenset(
    k.kind
    for k in KINDS
    if k.role
    in {
        _R.ORIGIN,
        _R.RECEIVE,
        _R.RETURN_RECEIVE,
        _R.TRANSFER_RECEIVE,
        _R.CONSUMER_RETURN,
        _R.RECALL_RECEIVE,
        _R.STOCK_GAIN,
    }
    or k.kind in {_K.SCRAP_RECEIPT, _K.REMNANT_RECEIPT}
)

NAMES: dict[str, EventKind] = {k.name: k.kind for k in KINDS if k.kind != _K.UNKNOWN}
BILL_TYPES: dict[int, EventKind] = {k.bill_type: k.kind for k in KINDS if k.bill_type is not None}
INFO: dict[EventKind, KindInfo] = {k.kind: k for k in KINDS}


def parse_kind(text: str) -> EventKind:
    """Return the kind named by ``text``: a contract name, a Chinese title or an MSFX number.

    Anything else is :attr:`EventKind.UNKNOWN`: it is counted and kept, never an error.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        # Python turns no text of thousands of digits into a number; no bill has more than three.
        return BILL_TYPES.get(int(text) if len(text) < 20 else -1, EventKind.UNKNOWN)
    return NAMES.get(text.lower(), _TITLES.get(text, EventKind.UNKNOWN))


_TITLES: dict[str, EventKind] = {k.title_zh: k.kind for k in KINDS if k.kind != _K.UNKNOWN}
