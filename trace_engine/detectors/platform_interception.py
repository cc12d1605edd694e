"""Platform interception 禁售拦截 (S6): what a platform should have stopped was sold through it.

What data show
--------------
The notice asks platforms to intercept listings of the ban list. How many were stopped stands in the
platform's own log of interceptions, which is no event here: the share intercepted (S6) is *not
evaluated: needs the platform's interception log*. What events show is what went through: banned sales
by platform and month, against its online sales. Each such sale is its seller's ``online_banned_sale``;
many of them, by several sellers, are the platform's: its rule does not hold.

Definition
----------
Needs ``registry.drugs`` and ``registry.enterprises`` (else ``no_registry``). Judged are events of role
``PERSON_SALE`` with the signal ``NEW_SALE`` that name a platform, of a drug the lists can be applied to
(else ``unknown_drug``), where the platform's id is that of a registered enterprise (else
``unknown_platform``). *Banned* are those whose drug is on ``online_ban`` on the day of the sale; their
number is also counted as ``no_interception_log``.

On a day with banned sales the platform is judged by its calendar month up to the end of that day. It
*fires*, once a month, when its banned sales are at least ``minimum_sales``, by at least
``minimum_sellers`` givers, and at least ``rate`` of its judged sales. It leads on the first banned sale of
that day (time, event_key); the first of each other seller on that day is related, and those of each seller on
the month's days before, the latest first (at most 16). observed = share of
banned sales, threshold = ``rate``. Severity 0.5, and 0.3 more where the share is ten times ``rate``.
Subject: the platform.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._shared import categories_of
from trace_engine.detectors._standing import standing_rows, sum_by_day
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
from trace_engine.events.kinds import Role

Int64 = npt.NDArray[np.int64]

ALL, BANNED = 0, 1  # causes
RELATED = 16  # further events shown with a finding


class PlatformInterceptionParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PlatformInterception`."""

    minimum_sales: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100_000,
            description="Banned sales in a month that are no slip",
            extra_json_schema={"unit": "sales", "zh": "每月禁售品种成交的最少笔数"},
        ),
    ] = 10
    minimum_sellers: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="Sellers of them: one may evade a rule that holds for others",
            extra_json_schema={"unit": "sellers", "zh": "涉及的最少商家数"},
        ),
    ] = 3
    rate: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1,
            description="Share of banned sales in the platform's sales of the month",
            extra_json_schema={"unit": "share", "zh": "禁售品种成交占该平台当月成交的比例"},
        ),
    ] = 0.001


class PlatformInterception(KeyedDetector[PlatformInterceptionParameters]):
    """Banned sales by platform and month."""

    id: ClassVar[str] = "platform_interception"
    title_zh: ClassVar[str] = "平台禁售拦截失效"
    title_en: ClassVar[str] = "Platform does not stop banned sales"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "platform and month"
    rows: ClassVar[tuple[str, ...]] = ("S6",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：第三方平台建立对禁售清单品种的拦截机制、"
        "未建立禁售品种管控规则"
    )
    unit: ClassVar[str] = "share"
    needs: ClassVar[tuple[str, ...]] = (
        "registry.drugs", "registry.enterprises", "platform_id",
        "interception log of the platform (for the share intercepted: not evaluated)",
    )  # fmt: skip
    false_positives: ClassVar[str] = (
        "One seller that evades the rule (several sellers are needed), single slips (a least "
        "number of sales is needed), exceptions of the list (not banned). Not kept out: a drug "
        "spelt wrongly in the registry."
    )
    false_positives_zh: ClassVar[str] = (
        "个别商家规避规则（须多家商家）、偶发漏拦（须达到最低笔数）、清单例外品种（不属禁售）。未排除："
        "登记数据中品名写错。"
    )
    parameters: ClassVar[type[Parameters]] = PlatformInterceptionParameters
    sentence_zh: ClassVar[str] = (
        "平台{subject}在{month}（截至{date}）有{sellers}家商家成交网络禁售品种{banned}笔，占其同期成交{online}笔的"
        "{observed:.2%}，禁售拦截未起作用（最近为{drug}，订单{order}）。拦截率须结合平台拦截日志核实。"
    )
    sentence_en: ClassVar[str] = (
        "Through the platform {subject} {sellers} sellers made {banned} sales of banned drugs in "
        "{month} (up to {date}), {observed:.2%} of its {online} sales: its interception does not hold "
        "(lastly {drug}, order {order}). The share intercepted needs the platform's own log."
    )

    def select(
        self, data: Slice, parameters: PlatformInterceptionParameters
    ) -> tuple[Rows, Verdict]:
        """Return the banned sales by platform, seller and day, and all sales by platform and day."""
        view, batch = data.registry, data.batch
        rows = data.rows_of(Role.PERSON_SALE)
        rows = rows[batch.platform[rows] >= 0]
        rows = rows[(data.custody.signal[rows] & np.uint32(NEW_SALE)) != 0]
        if not (view.has("drugs") and view.has("enterprises")):
            skipped = {"no_registry": len(rows)} if len(rows) else {}
            return _rows(data, rows[:0], rows[:0], rows[:0]), Verdict(skipped=skipped)
        categories = categories_of(data)
        platform = view.platform_party[batch.platform[rows]]
        # One entry more in each, for an event that names no drug (-1).
        judgeable = np.append(categories.judgeable, False)[batch.drug[rows]]
        known = platform >= 0
        kept = judgeable & known
        banned = np.append(categories.online_banned(data.first_day), False)[batch.drug[rows]]
        wrong = kept & banned
        skipped = {
            "unknown_drug": int(np.count_nonzero(~judgeable)),
            "unknown_platform": int(np.count_nonzero(judgeable & ~known)),
            "no_interception_log": int(np.count_nonzero(wrong)),
        }
        return _rows(data, rows[kept], platform[kept], rows[wrong]), Verdict(
            judged=int(np.count_nonzero(kept)),
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    def new_state(self) -> State:
        """Return empty state: by platform and month, sales, banned sales, sellers, whether told."""
        return {"months": {}}

    def advance(
        self, rows: Rows, state: State, parameters: PlatformInterceptionParameters, last_day: int
    ) -> Hits | None:
        """Judge each platform at the end of each day with banned sales."""
        rows = sum_by_day(rows)
        by_day: dict[tuple[int, int], list[int]] = {}
        for row, (party, time) in enumerate(
            zip(rows["subject_party"].tolist(), rows["time"].tolist(), strict=True)
        ):
            by_day.setdefault((time // DAY, party), []).append(row)
        found: list[tuple[list[int], int, dict[str, Any]]] = []
        for (day, party), mine in sorted(by_day.items()):
            month = str(np.datetime64(day, "D").astype("M8[M]"))
            entry = state["months"].setdefault(
                f"{party}:{month}",
                {"online": 0, "banned": 0, "sellers": {}, "earlier": [], "told": False},
            )
            wrong = [row for row in mine if rows["cause"][row] == BANNED]
            wrong.sort(key=lambda row: (int(rows["time"][row]), int(rows["event_key"][row])))
            entry["online"] += sum(int(rows["events"][r]) for r in mine if r not in wrong)
            entry["banned"] += sum(int(rows["events"][row]) for row in wrong)
            entry["sellers"] |= {str(int(rows["other_party"][row])): 1 for row in wrong}
            if (
                wrong
                and not entry["told"]
                and entry["banned"] >= parameters.minimum_sales
                and len(entry["sellers"]) >= parameters.minimum_sellers
                and entry["banned"] >= parameters.rate * entry["online"]
            ):
                entry["told"] = True
                told = {name: entry[name] for name in ("online", "banned", "earlier")}
                found.append(
                    (wrong, day, told | {"sellers": len(entry["sellers"]), "month": month})
                )
            if not entry["told"]:
                today = rows["seq"][wrong][::-1].tolist()
                entry["earlier"] = (today + entry["earlier"])[:RELATED]
        return _hits(rows, found, parameters) if found else None


def _rows(data: Slice, rows: Int64, platform: npt.NDArray[Any], banned: Int64) -> Rows:
    """Return one row for each platform and day, and one for each platform, seller and day."""
    batch = data.batch
    wrong = standing_rows(
        data,
        banned,
        subject=data.registry.platform_party[batch.platform[banned]],
        cause=BANNED,
        other=batch.source[banned],
    )
    day = np.maximum(batch.time[rows] // DAY, data.first_day) - data.first_day
    days = data.last_day - data.first_day + 1
    key = platform.astype(np.int64) * days + day
    # Many sales, few platforms and days: counted without sorting.
    low = int(key.min(initial=0)) if len(key) else 0
    counts = np.bincount(key - low)
    first = np.zeros(len(counts), np.int64)
    first[key[::-1] - low] = rows[::-1]
    used = np.flatnonzero(counts)
    leads = np.sort(first[used])
    every = standing_rows(
        data, leads, subject=data.registry.platform_party[batch.platform[leads]], cause=ALL
    )
    of_lead = every["subject_party"].astype(np.int64) * days + every["time"] // DAY - data.first_day
    every["events"] = counts[of_lead - low]
    joined = {name: np.concatenate([every[name], wrong[name]]) for name in every}
    order = np.argsort(joined["time"], kind="stable")
    return {name: column[order] for name, column in joined.items()}


def _hits(
    rows: Rows,
    found: list[tuple[list[int], int, dict[str, Any]]],
    parameters: PlatformInterceptionParameters,
) -> Hits:
    m = len(found)
    lead = np.array([wrong[0] for wrong, _, _ in found], np.int64)
    related = np.full((m, RELATED), -1, np.int64)
    for i, (wrong, _, told) in enumerate(found):
        others = [*rows["seq"][wrong[1:]].tolist(), *told["earlier"]][:RELATED]
        related[i, : len(others)] = others

    def column(name: str, dtype: Any = np.int64) -> npt.NDArray[Any]:
        return np.array([told[name] for _, _, told in found], dtype)

    share = column("banned") / np.maximum(column("online"), 1)
    return Hits(
        seq=rows["seq"][lead],
        time=rows["time"][lead],
        observed=share,
        threshold=np.full(m, parameters.rate),
        severity=np.where(share >= 10 * parameters.rate, 0.8, 0.5).astype(np.float32),
        subject=rows["subject_party"][lead],
        counterparty=rows["other_party"][lead],
        group=np.ones(m, np.uint64),
        related=related,
        extra={
            "month": column("month", np.str_),
            "sellers": column("sellers"),
            "banned": column("banned"),
            "online": column("online"),
        },
    )
