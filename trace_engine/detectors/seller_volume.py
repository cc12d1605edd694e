"""Seller's volume 销量异常 (P6): a month's sales of drugs open to abuse rise far above the usual.

Definition
----------
*Watched*: drugs in one of ``classes`` on the day of the sale (policy lists, or the registry). Counted:
new sales to persons (signal ``NEW_SALE``) of a watched drug with a known giver, in packs (a split sale
1, else the quantity, at least 1); packs that persons bring back (role ``CONSUMER_RETURN``) are taken
from the month in which they come back. A drug in several of the classes counts in the first.

Skipped: without a drug registry all new sales (``no_registry``); unclassified drugs (``unknown_drug``);
watched sales of a giver whose type or province the registry does not know (``unknown_seller``).

*Month*: of the calendar. A month is closed, and judged, when the first counted sale or return of a later
month by anyone has been seen; nothing is judged before. *Cell*: the sellers of one type (of the
registry) in one province with sales of the class in that month.

For a seller with n packs of a class in month M: its *history* are the closed months after the one of its
first counted event of that class, at most the last twelve (months without sales count as 0). *Fires*
when all of these hold:

* the history has at least ``minimum_months``;
* n >= ``minimum_packs``;
* n > the highest of the last ``maximum_months`` months of the history;
* n > ``mean_ratio`` × the mean of the history;
* n > median + ``mad_ratio`` × MAD of the packs of its cell in M (MAD at least 1 pack), the seller left
  out; where the cell has fewer than ``minimum_peers`` others: of all sellers of its type in the
  country; where these are too few as well: of all shops (pharmacies and chain stores) or of all
  medical institutions in the country; else it is not judged.

A month counts all that is sold in a wave of flu, so peers sell more as well.

The finding names the day of the month with the most packs (the earliest of several), by its first event.
Its time is the beginning of the month after M, the subject the seller. It stands only if the data begin
before the first month of the history does. observed = n, threshold = the highest of the limits. One
finding for each seller, class and month. Severity = 0.4 + 0.1 × (n / threshold - 1), at most 0.9.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._daily import first_and_sums
from trace_engine.detectors._quota import class_id, class_texts
from trace_engine.detectors._shared import categories_of
from trace_engine.detectors.base import (
    ROLE_OF,
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
from trace_engine.events.batch import DAY, SPLIT_SALE
from trace_engine.events.kinds import Role
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES

Int64 = npt.NDArray[np.int64]

# Types that do the same trade: shops, and medical institutions.
_TRADES = {
    int(kind): [int(k) for k in kinds] for kinds in (RETAIL_TYPES, MEDICAL_TYPES) for kind in kinds
}
KEPT = 13  # months remembered: the one that is open and twelve before it
_COLUMNS = ("seq", "time", "event_key", "source", "class_id", "cell", "packs")


class SellerVolumeParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`SellerVolume`."""

    classes: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            min_length=1,
            description="Classes of drugs that are watched",
            extra_json_schema={
                "unit": "classes",
                "zh": "监测的品种类别（易滥用、含特殊药品复方制剂等）",
            },
        ),
    ] = ("ephedrine_compound", "narcotic_compound", "tramadol_compound", "psychotropic_2")
    minimum_months: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=12,
            description="Fewest closed months of a seller's history",
            extra_json_schema={"unit": "months", "zh": "至少需要的历史月数"},
        ),
    ] = 3
    maximum_months: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=12,
            description="Months whose highest volume must be passed",
            extra_json_schema={"unit": "months", "zh": "取最高销量的历史月数"},
        ),
    ] = 6
    mean_ratio: Annotated[
        float,
        msgspec.Meta(
            ge=1.0,
            le=100.0,
            description="Multiple of the trailing monthly mean that must be passed",
            extra_json_schema={"unit": "ratio", "zh": "超过历史月均销量的倍数"},
        ),
    ] = 3.0
    mad_ratio: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=100.0,
            description="MADs above the median of its peers that must be passed",
            extra_json_schema={"unit": "MAD", "zh": "超过同类企业中位数的MAD倍数"},
        ),
    ] = 3.5
    minimum_peers: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100_000,
            description="Fewest peers to compare with",
            extra_json_schema={"unit": "sellers", "zh": "最少同类企业数"},
        ),
    ] = 10
    minimum_packs: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Fewest packs a month worth looking at",
            extra_json_schema={"unit": "packs", "zh": "当月最低销量"},
        ),
    ] = 50


class SellerVolume(KeyedDetector[SellerVolumeParameters]):
    """A seller's month against its own history and its peers."""

    id: ClassVar[str] = "seller_volume"
    title_zh: ClassVar[str] = "重点品种销量异常"
    title_en: ClassVar[str] = "Unusual volume of a watched class"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.QUANTITY
    key: ClassVar[str] = "seller and class"
    rows: ClassVar[tuple[str, ...]] = ("P6",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：易滥用品种和含特殊药品复方制剂销售的监测预警"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = (
        "registry.drugs",
        "registry.enterprises",
        "at least four closed months",
    )
    false_positives: ClassVar[str] = (
        "A flu season (peers rise as well), a new shop (no history yet: not judged), goods "
        "brought back (taken off), the first months of the data (not judged). Not kept out: a "
        "neighbour that closed and whose customers came over."
    )
    false_positives_zh: ClassVar[str] = (
        "流感季（同类企业同步上升）、新开药店（尚无历史，不判定）、退回的包装（抵减）、数据最初几个月（"
        "不判定）。未排除：邻近药店停业使顾客转来。"
    )
    parameters: ClassVar[type[Parameters]] = SellerVolumeParameters
    sentence_zh: ClassVar[str] = (
        "{subject}{month}销售{class_zh}{observed:.0f}个最小包装，其此前月均{mean:.1f}个、最高"
        "{highest}个，同类企业当月中位数{median:.1f}个，销量异常（判定线{threshold:.1f}个）。"
    )
    sentence_en: ClassVar[str] = (
        "In {month} {subject} sold {observed:.0f} packs of the class {class_en}; its own monthly mean "
        "before is {mean:.1f}, its highest month {highest}, the median of its peers {median:.1f} "
        "(limit {threshold:.1f})."
    )

    def select(self, data: Slice, parameters: SellerVolumeParameters) -> tuple[Rows, Verdict]:
        """Return one row for each seller, class and day: the packs it sold."""
        batch, view = data.batch, data.registry
        rows = data.rows_of(Role.PERSON_SALE, Role.CONSUMER_RETURN)
        if not view.has("drugs"):
            total = int(np.count_nonzero(self._counted(data, rows)[0]))
            return self._empty(), Verdict(skipped={"no_registry": total} if total else {})
        watched = self._watched(data, parameters)
        what = watched[batch.drug[rows]]
        some = np.flatnonzero(what)  # most sales are of drugs that nobody watches
        rows, what = rows[some], what[some]
        new, back = self._counted(data, rows)
        skipped = {"unknown_drug": int(np.count_nonzero(new & (what < 0)))}
        party = np.where(back, batch.target[rows], batch.source[rows])
        counted = (new | back) & (what > 0) & (party >= 0)
        rows, party, back, what = rows[counted], party[counted], back[counted], what[counted]
        kind = np.append(view.party_type, np.int8(0))[party].astype(np.int64)
        province = np.append(view.party_province, np.int8(0))[party].astype(np.int64)
        known = (kind > 0) & (province > 0)
        skipped["unknown_seller"] = int(np.count_nonzero(~known & ~back))
        rows, party, back = rows[known], party[known], back[known]
        packs = np.maximum(batch.quantity[rows].astype(np.int64), 1)
        packs[(batch.flags[rows] & SPLIT_SALE) != 0] = 1
        packs = np.where(back, -packs, packs)
        classes = what[known] - 1
        cell = (kind * 100 + province)[known]
        parts = [
            self._days(data, rows[mine], party[mine], packs[mine], int(c), cell[mine])
            for c in np.unique(classes)
            for mine in [classes == c]
        ]
        judged = int(np.count_nonzero(~back))
        verdict = Verdict(judged=judged, skipped={k: n for k, n in skipped.items() if n})
        if not parts:
            return self._empty(), verdict
        joined = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
        order = np.lexsort((joined["event_key"], joined["time"]))
        return {name: column[order] for name, column in joined.items()}, verdict

    @staticmethod
    def _watched(data: Slice, parameters: SellerVolumeParameters) -> Int64:
        """Return 1 + the class of each drug, 0 if not watched, -1 if not classified (and for -1)."""
        categories = categories_of(data)
        watched = np.where(categories.judgeable, 0, -1).astype(np.int64)
        for name in reversed(parameters.classes):
            member = categories.restricted(name, data.first_day) & (watched >= 0)
            watched[member] = class_id(name) + 1
        return np.append(watched, -1)

    @staticmethod
    def _counted(data: Slice, rows: Int64) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which rows are new sales, and which are packs brought back."""
        back = ROLE_OF[data.batch.kind[rows]] == int(Role.CONSUMER_RETURN)
        new = ~back & ((data.custody.signal[rows] & np.uint32(NEW_SALE)) != 0)
        return new, back

    @staticmethod
    def _days(data: Slice, rows: Int64, party: Any, packs: Int64, number: int, cell: Int64) -> Rows:
        batch = data.batch
        time, keys = batch.time[rows], batch.event_key[rows]
        first, sums = first_and_sums(time // DAY, party, time, keys, packs[:, None])
        return {
            "seq": data.seq_base + rows[first],
            "time": time[first],
            "event_key": keys[first],
            "source": party[first],
            "class_id": np.full(len(first), number, np.int64),
            "cell": cell[first],
            "packs": sums[:, 0],
        }

    @staticmethod
    def _empty() -> Rows:
        rows: Rows = {name: np.empty(0, np.int64) for name in _COLUMNS}
        return rows | {"event_key": np.empty(0, np.uint64), "source": np.empty(0, np.int32)}

    def new_state(self) -> State:
        """Return empty state: the open month, and by seller and class its months."""
        return {
            "month": -1,
            "keys": np.empty((0, 3), np.int64),  # seller, class, cell
            "begun": np.empty(0, np.int64),  # month of the first counted event
            "packs": np.empty((0, KEPT), np.int64),  # by month modulo KEPT
            # Of the open month: the day with the most packs and its first event.
            "best": np.empty((0, 4), np.int64),  # packs, time, event_key (as int64), seq
        }

    def advance(
        self, rows: Rows, state: State, parameters: SellerVolumeParameters, last_day: int
    ) -> Hits | None:
        """Close the months that rows of later months show to be over, and count the rows."""
        if len(rows["seq"]) == 0:
            return None
        month = (
            (rows["time"] // DAY).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        )
        found: list[dict[str, Any]] = []
        for now in np.unique(month).tolist():
            if state["month"] >= 0 and now > state["month"]:
                found.append(self._close(state, parameters))
                self._open(state, now)
            state["month"] = max(now, state["month"])
            self._count(state, {name: c[month == now] for name, c in rows.items()}, now)
        found = [part for part in found if len(part["seq"])]
        if not found:
            return None
        joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        return self._hits(joined)

    @staticmethod
    def _open(state: State, month: int) -> None:
        """Make room for ``month``: what stood in the places of the months since is forgotten."""
        for passed in range(state["month"] + 1, min(month, state["month"] + KEPT) + 1):
            state["packs"][:, passed % KEPT] = 0
        if month - state["month"] > KEPT:
            state["packs"][:] = 0
        state["best"][:] = -1

    @staticmethod
    def _count(state: State, rows: Rows, month: int) -> None:
        """Add the rows of one month; those of one seller, class and day may come in pieces."""
        wanted = np.stack([rows["source"].astype(np.int64), rows["class_id"], rows["cell"]], 1)
        held = len(state["keys"])
        distinct, where = np.unique(
            np.concatenate([state["keys"], wanted]), axis=0, return_inverse=True
        )
        where = where.reshape(-1)
        number = np.full(len(distinct), -1, np.int64)
        number[where[:held]] = np.arange(held)
        new = np.flatnonzero(number < 0)
        number[new] = held + np.arange(len(new))
        if len(new):
            state["keys"] = np.concatenate([state["keys"], distinct[new]])
            state["begun"] = np.append(state["begun"], np.full(len(new), month))
            more = np.zeros((len(new), KEPT), np.int64)
            state["packs"] = np.concatenate([state["packs"], more])
            state["best"] = np.concatenate([state["best"], np.full((len(new), 4), -1, np.int64)])
        key = number[where[held:]]
        np.add.at(state["packs"][:, month % KEPT], key, rows["packs"])
        # Days that came in pieces (from several engines) are one day again.
        time, event_key = rows["time"], rows["event_key"]
        first, sums = first_and_sums(time // DAY, key, time, event_key, rows["packs"][:, None])
        for i, packs in zip(first.tolist(), sums[:, 0].tolist(), strict=True):
            if packs > state["best"][key[i], 0]:  # days ascend: the earliest of equals stays
                state["best"][key[i]] = (packs, time[i], 0, rows["seq"][i])

    @staticmethod
    def _close(state: State, parameters: SellerVolumeParameters) -> dict[str, Any]:
        """Judge the open month of all sellers."""
        month, packs = state["month"], state["packs"]
        now = packs[:, month % KEPT]
        before = np.clip(month - state["begun"] - 1, 0, KEPT - 1)
        sure = np.flatnonzero(
            (before >= parameters.minimum_months) & (now >= parameters.minimum_packs)
        )
        back = np.arange(1, KEPT)
        past = packs[:, (month - back) % KEPT]  # newest first
        found: dict[str, list[Any]] = {
            name: []
            for name in ("seq", "observed", "threshold", "mean", "highest", "median", "group",
                         "time", "since", "class_id", "month", "subject")
        }  # fmt: skip
        for key in sure.tolist():
            history = past[key, : before[key]]
            mean = float(history.mean())
            highest = int(history[: parameters.maximum_months].max())
            peers = SellerVolume._peers(state, key, now, parameters.minimum_peers)
            if peers is None:
                continue
            median = float(np.median(peers))
            mad = max(float(np.median(np.abs(peers - median))), 1.0)
            limit = max(
                float(highest), parameters.mean_ratio * mean, median + parameters.mad_ratio * mad
            )
            if not now[key] > limit:
                continue
            number = int(state["keys"][key, 1])
            values = (
                int(state["best"][key, 3]), float(now[key]), limit, mean, highest, median,
                number * 100_000 + month, _begin(month + 1), _begin(month - int(before[key])),
                number, month, int(state["keys"][key, 0]),
            )  # fmt: skip
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
        return {name: np.array(column) for name, column in found.items()}

    @staticmethod
    def _peers(state: State, key: int, now: Int64, least: int) -> Int64 | None:
        """Return what others of the seller's cell sold of its class, else of its type or trade."""
        keys = state["keys"]
        others = (keys[:, 1] == keys[key, 1]) & (keys[:, 0] != keys[key, 0]) & (now > 0)
        near: Int64 = now[others & (keys[:, 2] == keys[key, 2])]
        if len(near) >= least:
            return near
        kind = keys[:, 2] // 100
        anywhere: Int64 = now[others & (kind == kind[key])]
        if len(anywhere) >= least:
            return anywhere
        trade: Int64 = now[others & np.isin(kind, _TRADES.get(int(kind[key]), ()))]
        return trade if len(trade) >= least else None

    @staticmethod
    def _hits(found: dict[str, Any]) -> Hits:
        observed, threshold = found["observed"], found["threshold"]
        zh, en = class_texts(found["class_id"].astype(np.int64))
        months = found["month"].astype(np.int64).astype("datetime64[M]").astype(str)
        return Hits(
            seq=found["seq"].astype(np.int64),
            observed=observed,
            threshold=threshold,
            severity=np.clip(0.4 + 0.1 * (observed / threshold - 1), 0, 0.9).astype(np.float32),
            subject=found["subject"].astype(np.int32),
            counterparty=np.full(len(observed), -1, np.int32),
            time=found["time"].astype(np.int64),
            history_since=found["since"].astype(np.int64),
            group=found["group"].astype(np.uint64),
            extra={
                "class_zh": zh,
                "class_en": en,
                "month": months,
                "mean": np.round(found["mean"], 1),
                "highest": found["highest"].astype(np.int64),
                "median": np.round(found["median"], 1),
            },
        )


def _begin(month: int) -> int:
    """Return the time (µs) at which a month (since January 1970) begins."""
    return int(np.datetime64(month, "M").astype("datetime64[D]").astype(np.int64)) * DAY
