"""The signs of scanning by proxy, told for one day: see ``proxy_scanning``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._scanning import (
    RELATED,
    LastDays,
    earliest,
    precise,
    runs,
    timed,
)
from trace_engine.detectors.base import (
    Parameters,
    Rows,
    State,
)
from trace_engine.events.batch import SECOND

Int64 = npt.NDArray[np.int64]


_SHARED, _FAST, _REGULAR, _AT_ONCE, _IN_AND_OUT = (1 << bit for bit in range(5))


_ENTERPRISE_BITS = 30  # of the number of an enterprise in a pair, sign included


class ProxyScanningParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of ``proxy_scanning``."""

    signals: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=5,
            description="Signals that must come together",
            extra_json_schema={"unit": "signals", "zh": "至少同时具备的特征数"},
        ),
    ] = 2
    enterprises: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=1000,
            description="Unrelated enterprises that share one device or operator",
            extra_json_schema={"unit": "enterprises", "zh": "同一设备或操作员服务的互不关联单位数"},
        ),
    ] = 3
    most_enterprises: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100_000,
            description="An id at more enterprises than this is a common word, not an id",
            extra_json_schema={"unit": "enterprises", "zh": "超过该单位数的编号视为通用写法，不判"},
        ),
    ] = 30
    days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days over which sharing is counted",
            extra_json_schema={"unit": "days", "zh": "共用统计天数"},
        ),
    ] = 30
    codes_per_second: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1000.0,
            description="Single packs a second that no hand scans",
            extra_json_schema={"unit": "codes/s", "zh": "单件扫码速率上限"},
        ),
    ] = 5.0
    run_codes: Annotated[
        int,
        msgspec.Meta(
            ge=3,
            le=10_000,
            description="Scans in a row that make a rate or a rhythm",
            extra_json_schema={"unit": "codes", "zh": "判断速率和间隔所需的连续扫码数"},
        ),
    ] = 20
    variation: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Intervals that vary less than this are a machine's",
            extra_json_schema={"unit": "ratio", "zh": "扫码间隔变异系数下限"},
        ),
    ] = 0.1
    pause_seconds: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=86_400,
            description="A longer pause ends a stretch of scanning",
            extra_json_schema={"unit": "seconds", "zh": "超过该间隔视为另一段扫码"},
        ),
    ] = 60
    same_time_codes: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=10_000,
            description="Most codes that may bear one scan time",
            extra_json_schema={"unit": "codes", "zh": "同一扫码时刻的最多码数"},
        ),
    ] = 10
    quick_seconds: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=86_400,
            description="Receipt and sale of a code nearer than this are one act",
            extra_json_schema={"unit": "seconds", "zh": "同码入库与零售最短间隔"},
        ),
    ] = 60
    quick_codes: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=10_000,
            description="Codes received and sold at once that make a signal",
            extra_json_schema={"unit": "codes", "zh": "入库即售达到该码数才算特征"},
        ),
    ] = 3


def links_of(state: State) -> LastDays:
    """Return who used which instrument on the last days."""
    return LastDays(state, "link", {"day": np.int32, "pair": np.int64})


def fired_of(state: State) -> LastDays:
    """Return what fired on the last days."""
    return LastDays(
        state,
        "fired",
        {"day": np.int32, "party": np.int32, "instrument": np.int64, "count": np.int64},
    )


def _instruments(rows: Rows) -> tuple[Int64, Int64, Int64]:
    """Return device and operator as numbers that never meet (-1 none), and which of them counts."""
    device, operator = rows["device"].astype(np.int64), rows["operator"].astype(np.int64)
    device = np.where(device >= 0, 2 * device, -1)
    operator = np.where(operator >= 0, 2 * operator + 1, -1)
    return device, operator, np.where(device >= 0, device, operator)


def _pair(instrument: Int64, enterprise: Int64) -> Int64:
    """Return one number for an instrument and an enterprise or group (which may be negative)."""
    return (instrument << _ENTERPRISE_BITS) + (enterprise + (1 << (_ENTERPRISE_BITS - 1)))


def judge_day(
    day: int, today: Rows, state: State, p: ProxyScanningParameters
) -> list[tuple[Any, ...]]:
    """Return what fires on a day: see ``proxy_scanning`` for the columns."""
    links, fired = links_of(state), fired_of(state)
    device, operator, instrument = _instruments(today)
    group, party = today["group"], today["worked_party"]
    # Groups are numbered from 0; an enterprise of none counts by itself, below -1.
    enterprise = np.where(group >= 0, group, -2 - party.astype(np.int64))
    pairs = np.unique(
        np.concatenate([_pair(ids, enterprise)[ids >= 0] for ids in (device, operator)])
    )
    links.add({"day": np.full(len(pairs), day), "pair": pairs})
    links.forget(day - p.days + 1)
    fired.forget(day - p.days + 1)
    distinct = np.unique(links.rows["pair"])
    ids, counts = np.unique(distinct >> _ENTERPRISE_BITS, return_counts=True)
    served = np.maximum(_count_of(device, ids, counts), _count_of(operator, ids, counts))
    usable = np.where(served <= p.most_enterprises, served, 0)

    found = []
    order, starts = runs(party, instrument)
    # A late event was moved to the beginning of its day: that is no scan time any more.
    is_scan = today["scan"] & timed(today["time"])
    at_least = min(p.run_codes, p.same_time_codes + 1)
    scans = np.add.reduceat(is_scan[order].astype(np.int64), starts[:-1])
    quick = np.add.reduceat(today["quick"][order].astype(np.int64), starts[:-1])
    # With fewer than these no second signal can hold.
    for i in np.flatnonzero((scans >= at_least) | (quick >= p.quick_codes) | (p.signals == 1)):
        mine = order[starts[i] : starts[i + 1]]
        shared = int(usable[mine].max())
        mask = _SHARED if shared >= p.enterprises else 0
        mask |= _IN_AND_OUT if quick[i] >= p.quick_codes else 0
        times = _scan_times(today, mine[is_scan[mine]])
        mask |= _rhythm(times, p)
        count = bin(mask).count("1")
        who, what = party[mine[0]], instrument[mine[0]]
        if count < p.signals:
            continue
        past = fired.rows
        same = (past["party"] == who) & (past["instrument"] == what)
        if count <= int(past["count"][same].max(initial=0)):
            continue
        fired.add(
            {
                "day": np.array([day]),
                "party": np.array([who]),
                "instrument": np.array([what]),
                "count": np.array([count]),
            }
        )
        events = earliest(today, mine)
        lead, others = int(events[0]), events[1:]
        telling = _telling(today, others, is_scan, p)
        others = np.concatenate([others[telling], others[~telling]])
        found.append(
            (
                int(today["seq"][lead]),
                int(who),
                mask,
                int(served[mine].max()),
                len(times),
                int(today["event_key"][lead]),
                today["seq"][others[:RELATED]],
            )
        )
    return found


def _telling(
    today: Rows, events: Int64, is_scan: npt.NDArray[np.bool_], p: ProxyScanningParameters
) -> npt.NDArray[np.bool_]:
    """Return which events show a signal by themselves or with the others of their bill."""
    out: npt.NDArray[np.bool_] = today["quick"][events].copy()
    bill = today["bill"][events]
    for one in np.unique(bill):
        mine = bill == one
        scans = events[mine & is_scan[events]]
        if _rhythm(_scan_times(today, scans), p):
            out |= mine
    return out


def _count_of(instrument: Int64, ids: Int64, counts: Int64) -> Int64:
    """Return the count of each instrument, 0 for none (-1)."""
    if len(ids) == 0:
        return np.zeros(len(instrument), np.int64)
    place = np.minimum(np.searchsorted(ids, instrument), len(ids) - 1)
    return np.where(ids[place] == instrument, counts[place], 0)


def _scan_times(today: Rows, scans: Int64) -> Int64:
    """Return the times of scans, ascending; a bill confirmed as a whole counts once."""
    if len(scans) == 0:
        return np.empty(0, np.int64)
    bill, time = today["bill"][scans], today["time"][scans]
    if 2 * int(np.count_nonzero(precise(time))) < len(time):
        return np.empty(0, np.int64)
    in_order: Int64 = np.sort(time)
    if (in_order[1:] != in_order[:-1]).all():
        return in_order
    order, starts = runs(bill, time)
    first, last = order[starts[:-1]], order[starts[1:] - 1]
    # Bills with one time have one run of (bill, time).
    bills, times = np.unique(bill[first], return_counts=True)
    whole = times[np.searchsorted(bills, bill[first])] == 1
    count = np.where(whole, 1, np.diff(starts))
    assert (time[first] == time[last]).all()
    found: Int64 = np.sort(np.repeat(time[first], count))
    return found


def _rhythm(times: Int64, p: ProxyScanningParameters) -> int:
    """Return the signals of scan times."""
    mask = 0
    if len(times) == 0:
        return mask
    _, count = np.unique(times, return_counts=True)
    if int(count.max()) > p.same_time_codes:
        mask |= _AT_ONCE
    times = times[np.repeat(count, count) <= p.same_time_codes]
    k = p.run_codes
    if len(times) < k:
        return mask
    span = times[k - 1 :] - times[: len(times) - k + 1]
    if ((k - 1) * SECOND > p.codes_per_second * (span + SECOND)).any():
        mask |= _FAST
    gaps = np.diff(times)
    cuts = np.flatnonzero(gaps > p.pause_seconds * SECOND)
    for stretch in np.split(times, cuts + 1):
        if len(stretch) >= k:
            between = np.diff(stretch).astype(np.float64)
            mean = float(between.mean())
            if mean > 0 and float(between.std()) < p.variation * mean:
                mask |= _REGULAR
    return mask
