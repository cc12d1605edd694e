"""Related-party ring 同一实控人关联 (G10): licences under one hand that trade with one another.

Enterprises of the registry are linked that state the same controller, telephone or address, or the
same legal person in the same city (namesakes are common). A value that more than ``most_linked``
enterprises state (an agency's telephone, a market's address) links nobody. Linked ones, directly or
through others, with at least ``licences`` different licence numbers are a ring, unless all of them
stand in one declared group.

A calendar month is judged when it is over. Counted are packs of hops in which a member is giver or
receiver, but for hops inside one declared group. It fires where at least ``licences`` members traded
with one another, at least ``packs`` packs, and these are at least ``share`` of all packs counted.
Sales to persons are no hops. observed = share inside, threshold = ``share``. Severity 0.4: who owns
whom is no offence; the finding is there to be ranked and looked into. Subject: the giver of the latest
hop inside; no amount. A shared scanning device is the matter of ``proxy_scanning`` and links nobody here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.core import signals
from trace_engine.detectors.base import (
    Evidence,
    Family,
    Hits,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY
from trace_engine.events.hashing import hash64
from trace_engine.graph.components import connected
from trace_engine.registry import RegistryView

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

_RELATED = 24  # hops named as evidence: the latest
# Columns that link, with their bit and words.
_LINKS = (
    ("controller_id", 1, "实际控制人", "controller"),
    ("legal_person", 2, "法定代表人", "legal person"),
    ("phone", 4, "电话", "telephone"),
    ("address", 8, "地址", "address"),
)
_COLUMNS: dict[str, Any] = {
    "seq": np.int64,
    "time": np.int64,
    "event_key": np.uint64,
    "source": np.int32,
    "target": np.int32,
    "ring": np.uint64,
    "inside": np.int8,
    "links": np.int8,
    "packs": np.int64,
}


class RelatedPartyRingParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`RelatedPartyRing`."""

    share: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=1,
            description="Share of the packs traded that stay inside the ring",
            extra_json_schema={"unit": "share", "zh": "关联企业之间交易量占比"},
        ),
    ] = 0.5
    licences: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=1000,
            description="Fewest licences under one hand that trade with one another",
            extra_json_schema={"unit": "licences", "zh": "关联且相互交易的许可证数下限"},
        ),
    ] = 3
    packs: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Fewest packs traded inside in the month",
            extra_json_schema={"unit": "packs", "zh": "当月内部交易数量下限"},
        ),
    ] = 30
    most_linked: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=10_000,
            description="A telephone, address or name stated by more enterprises links nobody",
            extra_json_schema={
                "unit": "enterprises",
                "zh": "超过此数的企业共用的信息不作为关联依据",
            },
        ),
    ] = 20


class Rings(NamedTuple):
    """Rings of a registry, by row of ``enterprises`` and a last entry for unknown ones."""

    ring: UInt64  # hash of the smallest id of the ring; 0 none
    links: npt.NDArray[np.int8]  # bits of _LINKS that tie the ring


@lru_cache(maxsize=4)
def rings_of(view: RegistryView, licences: int, most_linked: int) -> Rings:
    """Return the rings of the registry of ``view`` (see the module)."""
    table = view.registry.table("enterprises")
    n = 0 if table is None else int(table.num_rows)
    ring, links = np.zeros(n + 1, np.uint64), np.zeros(n + 1, np.int8)
    if table is None or n == 0:
        return Rings(ring, links)
    first, second, bits = [], [], []
    for name, bit, _, _ in _LINKS:
        if name not in table.column_names:
            continue
        values = pc.utf8_trim_whitespace(pc.fill_null(table.column(name).cast(pa.string()), ""))
        if name == "legal_person":
            city = pc.utf8_slice_codeunits(_text(table, "region"), 0, 4)
            named = pc.not_equal(values, "")
            values = pc.if_else(named, pc.binary_join_element_wise(values, city, "\x1f"), "")
        numbers = values.combine_chunks().dictionary_encode()
        index = numbers.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        counts = np.bincount(index, minlength=len(numbers.dictionary))
        linking = (counts >= 2) & (counts <= most_linked)
        linking &= np.array([bool(text) for text in numbers.dictionary.to_pylist()], np.bool_)
        rows = np.flatnonzero(linking[index])
        rows = rows[np.argsort(index[rows], kind="stable")]
        same = index[rows][1:] == index[rows][:-1]
        first.append(rows[:-1][same])
        second.append(rows[1:][same])
        bits.append(np.full(int(same.sum()), bit, np.int8))
    if not first or sum(map(len, first)) == 0:
        return Rings(ring, links)
    one, two, bit_of = np.concatenate(first), np.concatenate(second), np.concatenate(bits)
    component = np.asarray(connected(one, two, n))
    ids = _text(table, "enterprise_id").to_pylist()
    numbers_of = _text(table, "licence_no").to_pylist()
    groups = _text(table, "group_id").to_pylist()
    members: dict[int, list[int]] = {}
    for row in np.unique(np.concatenate([one, two])).tolist():
        members.setdefault(int(component[row]), []).append(row)
    for rows_of in members.values():
        held = {numbers_of[row] for row in rows_of if numbers_of[row]}
        declared = {groups[row] for row in rows_of}
        if len(held) < licences or (len(declared) == 1 and declared != {""}):
            continue
        inside = np.isin(one, rows_of)
        ring[rows_of] = hash64(min(ids[row] for row in rows_of))
        links[rows_of] = np.bitwise_or.reduce(bit_of[inside])
    return Rings(ring, links)


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a text column without nulls; empty texts where the table lacks it."""
    if name not in table.column_names:
        return pa.chunked_array([pa.array([""] * table.num_rows, pa.string())])
    return pc.fill_null(table.column(name).cast(pa.string()), "")


class RelatedPartyRing(KeyedDetector[RelatedPartyRingParameters]):
    """See the module."""

    id: ClassVar[str] = "related_party_ring"
    title_zh: ClassVar[str] = "同一实控人关联"
    title_en: ClassVar[str] = "Licences under one hand trading with one another"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.NETWORK
    key: ClassVar[str] = "ring and month"
    rows: ClassVar[tuple[str, ...]] = ("G10",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：同一实际控制人名下多家企业、"
        "多种业态关联"
    )
    unit: ClassVar[str] = "share"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises",)
    false_positives: ClassVar[str] = (
        "Declared groups: trade inside one group_id does not count. Namesakes: a legal person links "
        "only within one city. Agencies' telephones and markets' addresses: a value that many state "
        "links nobody. Lawful groups that never declared themselves do fire: they are to be ranked "
        "and looked into, not accused."
    )
    false_positives_zh: ClassVar[str] = (
        "已申报的集团：同一集团编号内部的交易不计。重名：法定代表人仅在同一城市内作为关联依据。"
        "代办机构电话、市场地址：被众多企业共用的信息不作为关联依据。未申报的合法集团仍会触发，"
        "应作为排序与核查线索，不能直接认定违法。"
    )
    parameters: ClassVar[type[Parameters]] = RelatedPartyRingParameters
    sentence_zh: ClassVar[str] = (
        "{month}，{subject}等{members}家企业（登记信息显示同一{links_zh}）之间相互交易{inside}盒，"
        "占其全部购销交易{all}盒的{percent:.0f}%，涉嫌同一实际控制人名下企业关联交易。流向：{flow}。"
    )
    sentence_en: ClassVar[str] = (
        "In {month} {subject} and others, {members} enterprises with the same {links_en} on record, "
        "traded {inside} packs with one another, {percent:.0f}% of the {all} packs they traded in "
        "all: licences under one hand. Flows: {flow}."
    )

    def select(self, data: Slice, parameters: RelatedPartyRingParameters) -> tuple[Rows, Verdict]:
        """Return the hops of members of rings."""
        batch, view = data.batch, data.registry
        hops = data.custody.rows(signals.HOP)
        if not view.has("enterprises"):
            verdict = Verdict(skipped={"no_registry": len(hops)} if len(hops) else {})
            return {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}, verdict
        rings = rings_of(view, parameters.licences, parameters.most_linked)
        source, target = batch.source[hops], batch.target[hops]
        named = (source >= 0) & (target >= 0) & (source != target)
        skipped = {"no_giver": int(np.count_nonzero(~named))} if not named.all() else {}
        hops, source, target = hops[named], source[named], target[named]
        if not rings.ring.any():
            return (
                {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()},
                Verdict(judged=len(hops), skipped=skipped),
            )
        giver = rings.ring[view.party_row[source]]
        taker = rings.ring[view.party_row[target]]
        group = view.party_group
        declared = (group[source] >= 0) & (group[source] == group[target])
        inside = (giver == taker) & (giver != 0)
        pieces = []
        for ring, side, which in (
            (giver, source, (giver != 0) & ~declared),
            (taker, target, (taker != 0) & ~inside & ~declared),
        ):
            rows = hops[which]
            pieces.append(
                {
                    "seq": data.seq_base + rows,
                    "time": batch.time[rows],
                    "event_key": batch.event_key[rows],
                    "source": batch.source[rows],
                    "target": batch.target[rows],
                    "ring": ring[which],
                    "inside": inside[which].astype(np.int8),
                    "links": rings.links[view.party_row[side[which]]],
                    "packs": batch.quantity[rows].astype(np.int64),
                }
            )
        joined = {n: np.concatenate([p[n] for p in pieces]).astype(t) for n, t in _COLUMNS.items()}
        order = np.argsort(joined["time"], kind="stable")
        return (
            {name: column[order] for name, column in joined.items()},
            Verdict(judged=len(hops), skipped=skipped),
        )

    def new_state(self) -> State:
        """Return no hops."""
        return {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}

    def advance(
        self, rows: Rows, state: State, parameters: RelatedPartyRingParameters, last_day: int
    ) -> Hits | None:
        """Remember the hops of open months and judge the months that are over."""
        joined = {
            n: np.concatenate([state[n], np.asarray(rows[n], t)]) for n, t in _COLUMNS.items()
        }
        if len(joined["seq"]) == 0:
            return None
        month = _month(joined["time"])
        closed = int(_month(np.array([(last_day + 1) * DAY]))[0])
        for name in _COLUMNS:
            state[name] = joined[name][month >= closed]
        found = []
        over = month < closed
        for key in sorted(
            set(zip(month[over].tolist(), joined["ring"][over].tolist(), strict=True))
        ):
            mine = np.flatnonzero((month == key[0]) & (joined["ring"] == np.uint64(key[1])))
            hit = _judge({n: joined[n][mine] for n in _COLUMNS}, key[0], parameters)
            if hit is not None:
                found.append(hit)
        return _hits(found, parameters) if found else None


class _Found(NamedTuple):
    month: int
    ring: int
    share: float
    inside: int
    all: int
    members: int
    links: int
    seqs: list[int]  # hops inside, the latest first


def _month(time: Int64) -> Int64:
    """Return months since 1970-01 of times."""
    return (time // DAY).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _judge(rows: Rows, month: int, parameters: RelatedPartyRingParameters) -> _Found | None:
    """Judge one ring's month."""
    inside = rows["inside"] != 0
    within, total = int(rows["packs"][inside].sum()), int(rows["packs"].sum())
    members = np.unique(np.concatenate([rows["source"][inside], rows["target"][inside]]))
    if len(members) < parameters.licences or within < parameters.packs:
        return None
    if within < parameters.share * total:
        return None
    mine = np.flatnonzero(inside)
    mine = mine[np.lexsort((rows["event_key"][mine], rows["time"][mine]))][::-1]
    links = int(np.bitwise_or.reduce(rows["links"]))
    ring = int(rows["ring"][0])
    latest = rows["seq"][mine].tolist()[:_RELATED]
    return _Found(month, ring, within / total, within, total, len(members), links, latest)


def _hits(found: list[_Found], parameters: RelatedPartyRingParameters) -> Hits:
    """Return one hit a ring and month, on its latest hop inside."""
    count = len(found)
    related = np.full((count, _RELATED), -1, np.int64)
    ends = []
    for i, one in enumerate(found):
        related[i, : len(one.seqs)] = one.seqs
        after = (np.datetime64(one.month, "M") + 1).astype("datetime64[D]").astype(np.int64)
        ends.append((int(after) - 1) * DAY)

    def words(place: int, joint: str) -> npt.NDArray[Any]:
        return np.array(
            [
                joint.join(str(link[place]) for link in _LINKS if link[1] & one.links)
                for one in found
            ]
        )

    return Hits(
        seq=related[:, 0].copy(),
        observed=np.array([one.share for one in found]),
        threshold=np.full(count, parameters.share),
        severity=np.full(count, 0.4, np.float32),
        time=np.array(ends, np.int64),
        amount=np.zeros(count, np.int64),
        group=np.array([one.ring ^ one.month for one in found], np.uint64),
        related=related,
        extra={
            "month": np.array([str(np.datetime64(one.month, "M")) for one in found]),
            "members": np.array([one.members for one in found]),
            "inside": np.array([one.inside for one in found]),
            "all": np.array([one.all for one in found]),
            "percent": np.array([100 * one.share for one in found]),
            "links_zh": words(2, "、"),
            "links_en": words(3, " and "),
        },
    )
