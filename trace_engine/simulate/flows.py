"""Honest lives of packs, generated for many at once.

A *lot* is a handful of packs of one batch that travel together to one seller; lots of a drug bound
for one province leave the maker in one *consignment*. A pack is commissioned, makes one to three
legal hops (maker → distributor → [second distributor] → buyer), each with a shipment and a receipt
bill, in chains goes from head office to store by transfer, and is sold to a person. Hops are days
apart; a path crosses at most one province border; hospitals get their goods in two hops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate import codes as code_numbers
from trace_engine.simulate.formulary import FORMULARY
from trace_engine.simulate.market import (
    CHAIN_STORE,
    DAY,
    MEDICINE,
    ONLINE,
    PUBLIC_HOSPITAL,
    RETAIL,
    Ints,
    Market,
)
from trace_engine.simulate.pace import by_case, scan_seconds
from trace_engine.simulate.rows import CASE, NONE, Rows

HOUR = 3600
MICRO = 1_000_000
LEAD_DAYS = 100  # consignments leave the maker from this long before the window on
MEAN_SIZE = np.array([7.0, 12.0, 22.0])  # packs a lot, by channel

# Prices as multiples of the ex-factory price. Bands do not overlap, so every legal margin is
# positive whatever path a pack took.
FIRST_DISTRIBUTOR = (1.05, 1.08)
SECOND_DISTRIBUTOR = (1.12, 1.16)
HOSPITAL = 1.18  # bought and dispensed at the province's listed price (零差率)
CLINIC, ONLINE_SHOP, RETAIL_SHOP = 1.36, 1.34, 1.48

(COMMISSION, SHIP_1, RECEIVE_1, SHIP_2, RECEIVE_2, SHIP_3, RECEIVE_3, MOVE_OUT, MOVE_IN, SALE) = (
    range(10)
)


@dataclass
class Lots:
    """Lots to be delivered: arrays of equal length (seller and drug number, packs)."""

    seller: Ints
    drug: Ints
    size: Ints


@dataclass
class Block:
    """Rows of some packs' whole lives; ``pack`` numbers packs within the block."""

    rows: Rows
    pack: npt.NDArray[np.int32]  # of each row
    step: npt.NDArray[np.int8]  # of each row
    lot: npt.NDArray[np.int32]  # of each pack
    codes: npt.NDArray[np.uint64]  # of each pack


def draw_lots(market: Market, rng: np.random.Generator, packs: int) -> Lots:
    """Draw sellers by size, a drug each may sell, and lot sizes adding up to about ``packs``."""
    share = np.bincount(market.channel[market.sellers], market.seller_weight, 3)
    count = max(1, round(packs / float(share @ MEAN_SIZE)))
    pick = np.searchsorted(market.seller_cdf, rng.random(count))
    seller = market.sellers[np.minimum(pick, len(market.sellers) - 1)]
    channel = market.channel[seller]
    drug = np.empty(count, np.int64)
    u = rng.random(count)
    for c, cdf in enumerate(market.channel_drugs):
        mine = channel == c
        drug[mine] = np.minimum(np.searchsorted(cdf, u[mine]), len(cdf) - 1)
    # Nobody keeps much stock of what is watched: its sales are spread over the months.
    watched = market.drug_ephedrine | market.has_class("psychotropic_2")
    # Who may not sell the drug in its province takes the medicine's first maker's.
    outside = ~market.allotted[drug, market.province[seller]]
    copies = market.drug_count // len(FORMULARY)
    drug = np.where(outside, drug // copies * copies, drug)
    size = np.minimum(rng.geometric(1 / MEAN_SIZE[channel]), np.where(watched[drug], 8, 120))
    return Lots(seller, drug, size)


def _between(rng: np.random.Generator, band: tuple[float, float], count: int) -> Any:
    return band[0] + (band[1] - band[0]) * rng.random(count)


def _office_hours(rng: np.random.Generator, day: Ints) -> Ints:
    """Return a second between 8:00 and 18:00 of each day."""
    return day * DAY + 8 * HOUR + rng.integers(0, 10 * HOUR, len(day))


def _consignments(
    market: Market, rng: np.random.Generator, lots: Lots, direct: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Group lots of one drug and province, up to eight, into consignments.

    Returns the consignment of each lot and the first lot of each consignment. Lots that go direct
    from the maker travel alone.
    """
    province = market.province[lots.seller]
    order = np.lexsort((rng.random(len(lots.drug)), province, lots.drug))
    d, p, alone = lots.drug[order], province[order], direct[order]
    new = np.ones(len(order), bool)
    new[1:] = (d[1:] != d[:-1]) | (p[1:] != p[:-1]) | alone[1:] | alone[:-1]
    start = np.flatnonzero(new)
    place = np.arange(len(order)) - start[np.cumsum(new) - 1]
    new |= place % 8 == 0
    consignment = np.empty(len(order), np.int64)
    consignment[order] = np.cumsum(new) - 1
    return consignment, order[new]


def honest_block(market: Market, rng: np.random.Generator, lots: Lots) -> Block:
    """Return the whole lives of the packs of ``lots`` (rows outside the window included)."""
    m, n = market, len(lots.seller)
    kind = m.type[lots.seller]
    hospital = kind == PUBLIC_HOSPITAL
    buyer = np.where(kind == CHAIN_STORE, m.parent[lots.seller], lots.seller)
    draw = rng.random(n)
    direct = (draw < 0.06) & ~hospital
    three = (draw > 0.68) & ~hospital
    consignment, head = _consignments(m, rng, lots, direct)
    c = len(head)

    # Consignment: maker -> first node.
    drug_c = lots.drug[head]
    maker = m.drug_holder[drug_c]
    goal = m.province[lots.seller[head]]
    through_home = rng.random(c) < 0.25
    hub = m.wholesaler_in(np.where(through_home, m.province[maker], goal), rng)
    first_node = np.where(direct[head], buyer[head], hub)
    span = m.days + LEAD_DAYS
    day_1 = m.first_day - LEAD_DAYS + rng.integers(0, span, c)
    batch_c = m.batch_for(drug_c, day_1, rng)
    ship_1 = _office_hours(rng, day_1)
    here, there = m.warehouse[maker], m.warehouse[first_node]
    day_1b = day_1 + m.transit_days(here, there, rng)
    receive_1 = _office_hours(rng, day_1b)
    base = m.drug_price[drug_c] * _between(rng, (0.99, 1.01), c)
    bills_c = m.new_bills(2 * c).reshape(2, c)

    # Lot: first node -> [second distributor] -> buyer.
    node_1 = first_node[consignment]
    day_at_1 = day_1b[consignment]
    gap = np.where(three, 4, 1) + np.minimum(rng.exponential(8, n), 50).astype(np.int64)
    day_2 = day_at_1 + gap
    second = m.wholesaler_in(m.province[lots.seller], rng, second_tier=True)
    node_2 = np.where(three, second, buyer)
    day_2b = day_2 + m.transit_days(m.warehouse[node_1], m.warehouse[node_2], rng)
    day_3 = day_2b + 4 + np.minimum(rng.exponential(6, n), 40).astype(np.int64)
    day_3b = day_3 + m.transit_days(m.warehouse[node_2], m.warehouse[buyer], rng)
    arrived = np.where(direct, day_at_1, np.where(three, day_3b, day_2b))
    times = np.zeros((10, n), np.int64)
    times[SHIP_1], times[RECEIVE_1] = ship_1[consignment], receive_1[consignment]
    times[SHIP_2], times[RECEIVE_2] = _office_hours(rng, day_2), _office_hours(rng, day_2b)
    times[SHIP_3], times[RECEIVE_3] = _office_hours(rng, day_3), _office_hours(rng, day_3b)
    store = kind == CHAIN_STORE
    day_out = arrived + 1 + rng.integers(0, 4, n)
    day_in = day_out + m.transit_days(m.warehouse[buyer], m.warehouse[lots.seller], rng)
    times[MOVE_OUT], times[MOVE_IN] = _office_hours(rng, day_out), _office_hours(rng, day_in)
    arrived = np.where(store, day_in, arrived)

    base_l = base[consignment]
    price_2 = base_l * np.where(three | ~hospital, _between(rng, FIRST_DISTRIBUTOR, n), 0.0)
    listed = m.drug_price[lots.drug] * HOSPITAL
    price_2 = np.where(hospital, listed, price_2)
    price_3 = base_l * _between(rng, SECOND_DISTRIBUTOR, n)
    bills = m.new_bills(6 * n).reshape(6, n)

    # Packs.
    lot = np.repeat(np.arange(n), lots.size)
    packs = len(lot)
    everything = np.arange(packs)
    codes, place_c = _codes(m, consignment, drug_c, lot)
    place_l = everything - (np.cumsum(lots.size) - lots.size)[lot]
    batch = batch_c[consignment][lot]
    sale_day = arrived[lot] + 1 + np.minimum(rng.exponential(18, packs), 100).astype(np.int64)
    sale_time = sale_day * DAY + 8 * HOUR + rng.integers(0, 13 * HOUR, packs)

    parts: list[Rows] = []
    part_pack: list[Ints] = []
    part_step: list[Ints] = []

    def emit(step: int, which: Ints, event: K, **columns: Any) -> None:
        count = len(which)
        parts.append(
            Rows.of(
                count,
                uid=m.new_uids(count),
                kind=int(event),
                code=codes[which],
                batch=batch[which],
                drug=np.where(m.drug_declared[lots.drug[lot[which]]], lots.drug[lot[which]], NONE),
                **columns,
            )
        )
        part_pack.append(which)
        part_step.append(np.full(count, step))

    production = np.asarray(m.batches.production)[batch]
    line = (
        production * DAY
        + 8 * HOUR
        + (codes // np.uint64(10_000) % np.uint64(30_000)).astype(np.int64)
    )
    maker_p = maker[consignment][lot]
    emit(
        COMMISSION,
        everything,
        K.COMMISSIONING,
        time=line,
        actor=maker_p,
        target=maker_p,
        target_city=m.warehouse[maker_p],
    )

    def hop(
        ship_step: int,
        which: Ints,
        giver: Ints,
        receiver: Ints,
        price: Any,
        bill: Ints,
        answer: Ints,
        load: Ints | None = None,
    ) -> None:
        """Emit shipment and receipt of packs ``which``; other arguments are by lot.

        ``load``: packs of the whole consignment, where it travels as one.
        """
        at = lot[which]
        g, r = giver[at], receiver[at]
        fen = np.maximum(np.rint(price[at]).astype(np.int64), 1)
        for step, event, who, number, origin in (
            (ship_step, K.SALE_SHIPMENT, g, bill[at], np.full(len(at), NONE)),
            (ship_step + 1, K.PURCHASE_RECEIPT, r, answer[at], bill[at]),
        ):
            hidden = m.no_region[who]
            if load is None:
                after, cased = scan_seconds(place_l[which], lots.size[at], number), None
            else:
                after, cased = by_case(place_c[which], load[at], number)
            emit(
                step,
                which,
                event,
                time=times[step][at] + after,
                flags=0 if cased is None else cased * CASE,
                actor=who,
                source=g,
                target=r,
                source_city=np.where(hidden, NONE, m.warehouse[g]),
                target_city=np.where(hidden, NONE, m.warehouse[r]),
                price=np.where(m.no_price[who], NONE, fen),
                bill=number,
                from_bill=origin,
            )

    bill_1, answer_1 = bills_c[0][consignment], bills_c[1][consignment]
    maker_l = maker[consignment]
    load = np.bincount(consignment, lots.size, c).astype(np.int64)[consignment]
    hop(SHIP_1, everything, maker_l, node_1, base_l, bill_1, answer_1, load)
    later = np.flatnonzero(~direct[lot])
    hop(SHIP_2, later, node_1, node_2, price_2, bills[0], bills[1])
    third = np.flatnonzero(three[lot])
    hop(SHIP_3, third, node_2, buyer, price_3, bills[2], bills[3])
    moved = np.flatnonzero(store[lot])
    at = lot[moved]
    for step, event, number, actor in (
        (MOVE_OUT, K.TRANSFER_SHIPMENT, bills[4], buyer[at]),
        (MOVE_IN, K.TRANSFER_RECEIPT, bills[5], m.uploader[lots.seller[at]]),
    ):
        emit(
            step,
            moved,
            event,
            time=times[step][at] + scan_seconds(place_l[moved], lots.size[at], number[at]),
            actor=actor,
            source=buyer[at],
            target=lots.seller[at],
            source_city=m.warehouse[buyer[at]],
            target_city=m.warehouse[lots.seller[at]],
            bill=number[at],
            from_bill=NONE if step == MOVE_OUT else bills[4][at],
        )
    _sales(m, rng, lots, lot, sale_time, emit)
    return Block(
        Rows.concat(parts),
        np.concatenate(part_pack).astype(np.int32),
        np.concatenate(part_step).astype(np.int8),
        lot.astype(np.int32),
        codes,
    )


def _codes(
    m: Market, consignment: Ints, drug_c: Ints, lot: Ints
) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Return a code for each pack and its place: serials run through a consignment."""
    first = m.new_serials(len(drug_c))
    of_pack = consignment[lot]
    order = np.argsort(of_pack, kind="stable")
    sorted_c = of_pack[order]
    start = np.searchsorted(sorted_c, np.arange(len(drug_c)))
    place = np.empty(len(lot), np.int64)
    place[order] = np.arange(len(lot)) - start[sorted_c]
    serial = first[of_pack] + place
    return make_codes(m, drug_c[of_pack], serial), place


def make_codes(m: Market, drug: Ints, serial: Ints) -> npt.NDArray[np.uint64]:
    """Return code numbers of packs of ``drug`` with ``serial``, in each drug's code system."""
    return np.where(
        m.drug_gs1[drug],
        code_numbers.gs1(drug, serial),
        code_numbers.national(m.drug_identifier[drug], serial),
    )


def retail_price(m: Market, seller: Any, drug: Any, noise: Any) -> Any:
    """Return what a person pays at ``seller`` for a pack of ``drug``, fen (``noise`` near 1)."""
    channel = m.channel[seller]
    factor = np.choose(channel, [RETAIL_SHOP, ONLINE_SHOP, CLINIC]) * m.retail_factor[seller]
    hospital = m.type[seller] == PUBLIC_HOSPITAL
    factor = np.where(hospital, HOSPITAL, factor * noise)
    return np.rint(m.drug_price[drug] * factor).astype(np.int64)


def _sales(
    m: Market, rng: np.random.Generator, lots: Lots, lot: Ints, time: Ints, emit: Any
) -> None:
    """Emit the sale of each pack to a person; some orders hold two packs of one lot."""
    packs = len(lot)
    seller, drug = lots.seller[lot], lots.drug[lot]
    channel = m.channel[seller]
    # Two packs in one order: the second takes everything that makes an order from the first.
    leader = np.arange(packs)
    pair = rng.random(packs) < 0.12
    pair[0] = False
    pair[1:] &= (lot[1:] == lot[:-1]) & ~pair[:-1]
    follows = np.flatnonzero(pair & ~np.roll(pair, 1))
    leader[follows] = follows - 1
    known = (channel == ONLINE) | m.drug_ephedrine[drug] | (rng.random(packs) < 0.4)
    # Ephedrine compounds: a person buys once (one order) in the window, within every quota.
    regular = rng.integers(0, max(1000, packs // 3), packs) + 10**9
    buyer = np.where(m.drug_ephedrine[drug], m.new_buyers(packs), regular)
    buyer = np.where(known, buyer, NONE)
    online = channel == ONLINE
    number = m.new_bills(packs)
    order = np.where(online | (rng.random(packs) < 0.3), number, NONE)
    prescribed = m.has_class("rx")[drug]
    prescription = np.where(prescribed, number, NONE)
    vaccine = m.has_class("vaccine")[drug]
    event = np.where(
        vaccine,
        int(K.VACCINATION),
        np.where(channel == MEDICINE, int(K.DISPENSING), int(K.RETAIL_SALE)),
    )
    price = retail_price(m, seller, drug, 0.985 + 0.03 * rng.random(packs))
    home = m.warehouse[seller]
    stated = online | (rng.random(packs) < 0.5)
    ship_to = rng.integers(0, len(m.city_province), packs)
    goal = np.where(online, ship_to, NONE)
    shop = np.where(online, m.shop_of[seller], NONE)
    g = leader
    for kind in (K.RETAIL_SALE, K.DISPENSING, K.VACCINATION):
        which = np.flatnonzero(event == int(kind))
        lead = g[which]
        emit(
            SALE,
            which,
            kind,
            time=time[lead],
            actor=m.uploader[seller[which]],
            source=seller[which],
            source_city=np.where(stated, home, NONE)[lead],
            target_city=goal[lead],
            price=price[lead],
            bill=number[lead],
            order=order[lead],
            buyer=buyer[lead],
            prescription=prescription[lead],
            shop=shop[which],
        )


__all__ = ["RETAIL", "Block", "Lots", "draw_lots", "honest_block", "make_codes", "retail_price"]
