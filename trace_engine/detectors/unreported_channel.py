"""Unreported channel 未备案店铺 (S3): online sales through a shop that nobody reported.

Definition
----------
Needs ``registry.shops`` (else online sales are skipped as ``no_shop_register``). Judged are events of
role ``SHIP`` and ``PERSON_SALE`` that name a shop or a platform, by a giver the enterprise registry
knows. Where the shop register names who holds a shop, a giver of a province from which nobody has one
is skipped as ``register_does_not_cover``; unregistered givers are ``unknown_seller``.

The entries of a shop are those with its id, on the platform of the event as far as both name one. A
sale is wrong, by the first that holds, if

* it names a shop and there is no entry (``unknown``);
* every entry names as holder another registered enterprise, of another group (``other_holder``);
* of the remaining entries none holds on that day: all were over before it (``ended``), or else some
  begin after it (``before``);
* it names no shop, and its giver (or its group) has none on that platform (``no_shop_there``; only if
  the register names holders and platforms).

A change must be reported within ``working_days`` [10, published]. Cases (see ``_standing``) are kept
apart by subject, shop, platform and reason, and count from the day after the ``working_days``-th working
day after the case was first seen. (A shop that sold before the data begin is the more overdue.)

observed: days since the first such sale, threshold: ``working_days``. Severity: another's shop 0.6, ended
0.5, others 0.4.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.workdays import add_working_days
from trace_engine.detectors._rights import row_of
from trace_engine.detectors._standing import (
    advance_standing,
    days_at_least,
    hits_of_cases,
    new_standing_state,
    standing_rows,
)
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
from trace_engine.events.batch import ONLINE
from trace_engine.events.kinds import Role
from trace_engine.registry.channels import Shops

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

FINE, UNKNOWN, OTHER_HOLDER, BEFORE, ENDED, NO_SHOP_THERE = range(6)

_NONE_NAMED = -1  # platform of an event; -2: one on which the register has no shop
_SEVERITY = np.array([0.0, 0.4, 0.6, 0.4, 0.5, 0.4])
_WHY_ZH = np.array(
    ["", "该店铺未在报告信息中列明", "该店铺系其他企业报告的店铺", "销售发生在该店铺报告之前",
     "该店铺的报告已终止", "其在该平台没有已报告的店铺"]
)  # fmt: skip
_WHY_EN = np.array(
    ["", "the shop is in nobody's report", "the shop was reported by another enterprise",
     "the sale came before the shop was reported", "the report of the shop has ended",
     "it has no reported shop on that platform"]
)  # fmt: skip


@lru_cache(maxsize=4096)
def _counts_from(first_day: int, working_days: int) -> int:
    """Return the first day after ``working_days`` working days after a day (since 1970)."""
    begin = dt.date(1970, 1, 1) + dt.timedelta(days=first_day)
    last, _ = add_working_days(begin, working_days)
    return (last - dt.date(1970, 1, 1)).days + 1


@kernel
def _judge(
    shop: Int32,
    platform: Int32,
    seller: Int64,
    low: Int64,
    high: Int64,
    first: Int64,
    after: Int64,
    of_platform: Int32,
    holder: Int32,
    begins: Int32,
    ends: Int32,
    group: Int32,
    why: npt.NDArray[np.int8],
) -> None:
    """Write why each sale through a named shop is wrong (0 it is not). All of shape ``(m,)``."""
    for i in range(len(shop)):
        if shop[i] < 0:
            continue
        found = UNKNOWN
        for entry in range(first[shop[i]], after[shop[i]]):
            named = platform[i] != _NONE_NAMED and of_platform[entry] >= 0
            if named and platform[i] != of_platform[entry]:
                continue
            other = holder[entry]
            if other >= 0 and other != seller[i]:
                mine = group[seller[i]]
                if mine < 0 or mine != group[other]:
                    found = max(found, OTHER_HOLDER)
                    continue
            if begins[entry] > high[i]:
                found = BEFORE
            elif ends[entry] < low[i]:
                found = found if found == BEFORE else ENDED
            else:
                found = FINE
                break
        why[i] = found


class UnreportedChannelParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`UnreportedChannel`."""

    working_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=250,
            description="Working days within which a change must be reported",
            extra_json_schema={"unit": "working days", "zh": "报告信息变更的期限（工作日）"},
        ),
    ] = 10
    repeat_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=3660,
            description="When it is told again that the trade goes on",
            extra_json_schema={"unit": "days", "zh": "持续经营时再次提示的间隔天数"},
        ),
    ] = 30


class UnreportedChannel(KeyedDetector[UnreportedChannelParameters]):
    """Online sales against the register of shops."""

    id: ClassVar[str] = "unreported_channel"
    title_zh: ClassVar[str] = "未报告的网络销售店铺"
    title_en: ClassVar[str] = "Unreported online shop"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.LICENCE
    key: ClassVar[str] = "enterprise and shop"
    rows: ClassVar[tuple[str, ...]] = ("S3",)
    basis: ClassVar[str] = (
        "《药品网络销售监督管理办法》第十一条；《内蒙古自治区药品网络销售监督管理实施办法（试行）》"
        "第十九条、第二十一条、第二十二条：店铺逐个列明报告，变更10个工作日内报告"
    )
    unit: ClassVar[str] = "days"
    needs: ClassVar[tuple[str, ...]] = ("registry.shops", "registry.enterprises", "shop_id")
    false_positives: ClassVar[str] = (
        "A new shop whose report is still due (working days), a shop register of another place "
        "(provinces without entries are not judged), stores that sell through the shop of their "
        "head office (one group), one shop id on two platforms (told apart)."
    )
    false_positives_zh: ClassVar[str] = (
        "报告期限未满的新店（按工作日计）、他省网店登记（没有登记数据的省份不判定）、"
        "通过总部网店销售的门店（同一集团）、两个平台上相同的店铺号（分别识别）。"
    )
    parameters: ClassVar[type[Parameters]] = UnreportedChannelParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}仍通过网络店铺销售药品，{why_zh}；自首笔此类销售起已{observed:.0f}天，超过"
        "{threshold:.0f}个工作日的报告期限。当日{events}笔、{packs}个最小包装，首笔为{drug}（订单{order}）。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} still sold online although {why_en}: {observed:.0f} days since the first "
        "such sale, over the {threshold:.0f} working days for a report. {events} sale(s) and {packs} "
        "pack(s) that day, the first of {drug} (order {order})."
    )

    def select(self, data: Slice, parameters: UnreportedChannelParameters) -> tuple[Rows, Verdict]:
        """Return the sales through channels that are not reported, summed by case and day."""
        view, batch = data.registry, data.batch
        sales = data.rows_of(Role.SHIP, Role.PERSON_SALE)
        sales = sales[(batch.flags[sales] & ONLINE) != 0]
        shops = view.shops
        if shops is None:
            nothing = np.empty(0, np.int64)
            empty = standing_rows(data, nothing, subject=nothing.astype(np.int32), cause=0)
            return empty, Verdict(skipped={"no_shop_register": len(sales)} if len(sales) else {})
        seller = row_of(data, batch.source[sales])
        known = seller >= 0
        covered = known.copy()
        if shops.names_holders:
            province = np.append(view.party_province, np.int8(0))[batch.source[sales]]
            covered &= shops.provinces[province]
        rows, seller = sales[covered], seller[covered]
        why = self._why(data, shops, rows, seller)
        wrong = why != FINE
        found = standing_rows(
            data,
            rows[wrong],
            subject=batch.source[rows[wrong]],
            cause=why[wrong],
            shop=batch.shop[rows[wrong]],
            platform=batch.platform[rows[wrong]],
        )
        skipped = {
            "unknown_seller": int(np.count_nonzero(~known)),
            "register_does_not_cover": int(np.count_nonzero(known & ~covered)),
        }
        return found, Verdict(
            judged=len(rows), skipped={reason: count for reason, count in skipped.items() if count}
        )

    @staticmethod
    def _why(data: Slice, shops: Shops, rows: Int64, seller: Int64) -> npt.NDArray[np.int8]:
        """Return why each sale is wrong (FINE: it is not), shape ``(m,)``."""
        batch, group = data.batch, data.registry.row_group
        shop = batch.shop[rows]
        stated = np.where(shops.platform_of >= 0, shops.platform_of, np.int32(_NONE_NAMED - 1))
        platform = np.append(stated, np.int32(_NONE_NAMED)).astype(np.int32)[batch.platform[rows]]
        low, high = days_at_least(data, rows)
        why = np.zeros(len(rows), np.int8)
        _judge(
            shop,
            platform,
            seller,
            low,
            high,
            shops.first,
            shops.after,
            shops.platform,
            shops.holder,
            shops.reported_from,
            shops.reported_to,
            group,
            why,
        )
        alone = np.flatnonzero((shop < 0) & (batch.platform[rows] >= 0))
        if len(alone) and shops.names_holders and shops.names_platforms:
            # A group stands for its members: row numbers and groups in one key, groups negative.
            held, on = shops.holder_platforms >> 32, shops.holder_platforms & 0xFFFFFFFF
            grouped = group[held] >= 0
            by_group = np.unique(group[held[grouped]].astype(np.int64) << 32 | on[grouped])
            here = platform[alone].astype(np.int64)
            own = np.isin(seller[alone] << 32 | here, shops.holder_platforms)
            of_group = group[seller[alone]].astype(np.int64)
            own |= (of_group >= 0) & np.isin(of_group << 32 | here, by_group)
            why[alone[~own | (here < 0)]] = NO_SHOP_THERE
        return why

    def new_state(self) -> State:
        """Return empty state: what is known of each case."""
        return new_standing_state()

    def advance(
        self, rows: Rows, state: State, parameters: UnreportedChannelParameters, last_day: int
    ) -> Hits | None:
        """Tell each case once its report is overdue, and again while it goes on."""
        fired = advance_standing(
            rows,
            state,
            parameters.repeat_days,
            counts_from=lambda day: _counts_from(day, parameters.working_days),
        )
        if fired is None:
            return None
        told, why = fired.rows, fired.rows["cause"]
        return hits_of_cases(
            told,
            observed=fired.since_first,
            threshold=parameters.working_days,
            severity=_SEVERITY[why],
            cause=why,
            counterparty=told["other_party"],
            extra={"why_zh": _WHY_ZH[why], "why_en": _WHY_EN[why]},
        )
