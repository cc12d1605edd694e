"""What could be sampled for cause: seller × drug × channel, worth less with every repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.ranking.evidence import finding_nats
from trace_engine.ranking.parameters import RankingParameters

ONLINE, OFFLINE, HOSPITAL = "online", "offline", "hospital"
MEDICAL = ("medical", "public_hospital")
SUSPECTED = "suspected_violation"
_ONLINE_KEYS = ("shop_id", "platform_id")
# What these find has been sold online, whether or not the evidence names a shop.
ONLINE_DETECTORS = ("online_banned_sale",)

Int64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class Target:
    """One seller × drug × channel with its findings, strongest first."""

    seller: int  # row of the sellers table
    drug_id: str | None
    channel: str
    value: float  # score × share of the seller's evidence × discount for repeats
    findings: list[int]  # rows of the findings table


def sells_online(sellers: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which sellers sell most of what they sell to persons online."""
    online = sellers.column("packs_sold_online").to_numpy()
    sold = sellers.column("packs_sold").to_numpy()
    mostly: npt.NDArray[np.bool_] = (online > 0) & (2 * online >= sold)
    return mostly


def is_medical(sellers: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which sellers are medical institutions."""
    result: npt.NDArray[np.bool_] = pc.is_in(
        sellers.column("type"), value_set=pa.array(MEDICAL)
    ).to_numpy()
    return result


def online_place(evidence: str | None) -> tuple[str | None, str | None]:
    """Return platform and shop named in a finding's evidence, where they are.

    The evidence itself is asked first, then the events of its path, the last first.
    """
    if not evidence or not any(f'"{key}"' in evidence for key in _ONLINE_KEYS):
        return None, None
    try:
        found: Any = msgspec.json.decode(evidence)
    except msgspec.DecodeError:
        # Written by something else than this engine: it says nothing of a shop.
        return None, None
    if not isinstance(found, dict):
        return None, None
    path = found.get("path")
    events = [event for event in path if isinstance(event, dict)] if isinstance(path, list) else []
    for place in (found, *reversed(events)):
        platform, shop = place.get("platform_id"), place.get("shop_id")
        if platform or shop:
            return (str(platform) if platform else None, str(shop) if shop else None)
    return None, None


def channels(findings: pa.Table, sellers: pa.Table, seller: Int64) -> list[str]:
    """Return the channel of every finding; ``seller`` is the row of its subject.

    Medical institutions are their own channel. A finding is online if its rule is about online
    sales, if it names an order, a platform or a shop, or if its seller sells mostly online.
    """
    medical, mostly_online = is_medical(sellers), sells_online(sellers)
    order = findings.column("order_code").to_pylist()
    detector = findings.column("detector").to_pylist()
    evidence = findings.column("evidence").to_pylist()
    result = []
    for row, who in enumerate(seller.tolist()):
        if medical[who]:
            result.append(HOSPITAL)
        elif (
            detector[row] in ONLINE_DETECTORS
            or order[row]
            or mostly_online[who]
            or any(online_place(evidence[row]))
        ):
            result.append(ONLINE)
        else:
            result.append(OFFLINE)
    return result


def find_targets(
    findings: pa.Table,
    sellers: pa.Table,
    parameters: RankingParameters,
    repeat_discount: float,
    maximum_per_seller: int,
) -> list[Target]:
    """Return targets, the most valuable first; equal values by seller, drug and channel.

    ``findings`` holds suspected violations of sellers in ``sellers`` only. The ``j``-th best target
    of a seller (from 0) is worth ``score × relevance × repeat_discount ** j``, its relevance being
    its evidence as a share of that of the seller's best target.
    """
    if not findings.num_rows:
        return []
    ids = sellers.column("enterprise_id").combine_chunks()
    subject = findings.column("subject_id").combine_chunks()
    seller = pc.index_in(subject, value_set=ids).to_numpy().astype(np.int64)
    nats = finding_nats(floats(findings, "severity"), floats(findings, "code_count"), parameters)
    channel = channels(findings, sellers, seller)
    drug = findings.column("drug_id").to_pylist()
    finding_id = findings.column("finding_id").to_pylist()
    groups: dict[tuple[int, str, str], list[int]] = {}
    for row, who in enumerate(seller.tolist()):
        groups.setdefault((who, drug[row] or "", channel[row]), []).append(row)
    by_seller: dict[int, list[tuple[float, str, str, list[int]]]] = {}
    for (who, what, where), rows in groups.items():
        rows.sort(key=lambda r: (-nats[r], finding_id[r]))
        weight = float(sum(float(nats[r]) for r in rows))
        by_seller.setdefault(who, []).append((weight, what, where, rows))
    score = sellers.column("score").to_numpy()
    names = ids.to_pylist()
    targets = []
    for who, cells in by_seller.items():
        cells.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
        best = cells[0][0]
        for place, (weight, what, where, rows) in enumerate(cells[:maximum_per_seller]):
            relevance = weight / best if best > 0 else 0.0
            value = float(score[who]) * relevance * repeat_discount**place
            targets.append(Target(who, what or None, where, value, rows))
    targets.sort(key=lambda t: (-t.value, names[t.seller], t.drug_id or "", t.channel))
    return targets


def allocate(
    targets: Sequence[Target],
    jurisdiction: list[str],
    size: int,
    share_limit: int,
    capacity: int,
) -> list[Target]:
    """Return up to ``size`` targets, best first, at most ``share_limit`` a jurisdiction.

    ``jurisdiction`` names that of every seller. If the limit leaves places empty, the best of those
    passed over fill them. ``capacity`` (0: none) is never exceeded.
    """
    taken: list[Target] = []
    passed: list[Target] = []
    used: dict[str, int] = {}
    hard = capacity or size
    for limit, queue in ((min(share_limit, hard), targets), (hard, passed)):
        for target in queue:
            if len(taken) >= size:
                break
            where = jurisdiction[target.seller]
            if used.get(where, 0) < limit:
                used[where] = used.get(where, 0) + 1
                taken.append(target)
            elif queue is targets:
                passed.append(target)
    taken.sort(key=lambda t: -t.value)
    return taken


def floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers, 0 where there is none."""
    column = pc.fill_null(table.column(name).combine_chunks().cast(pa.float64()), 0.0)
    values: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
    return values
