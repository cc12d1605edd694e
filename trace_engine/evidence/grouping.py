"""Group hits of one cause: columns of all hits of one detector, and the runs that are findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.detectors.base import Hits
from trace_engine.events.batch import DAY, NATIONAL_LIMIT, Vocabulary

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.registry import RegistryView

Int64 = npt.NDArray[np.int64]

# Custom groups are kept apart from bills and codes by this salt.
_BILL, _CODE, _OWN = np.uint64(1), np.uint64(2), np.uint64(3)


@dataclass(slots=True)
class Grouped:
    """Hits of one detector with every default filled, ordered so that groups are runs.

    All columns have shape ``(m,)``; ``starts`` has the first hit of each group, then ``m``. Within
    a group hits stand by the text of their code, then by time and event key: never by numbers that
    were given on arrival.
    """

    seq: Int64
    time: Int64
    subject: npt.NDArray[np.int32]
    counterparty: npt.NDArray[np.int32]
    region: npt.NDArray[np.int16]
    drug: npt.NDArray[np.int32]
    batch_no: npt.NDArray[np.int32]
    code: npt.NDArray[np.uint64]
    bill: npt.NDArray[np.uint64]
    observed: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    severity: npt.NDArray[np.float32]
    amount: Int64  # fen
    own_group: npt.NDArray[np.uint64]  # 0 where the hit is grouped by bill or code
    related: Int64 | None
    extra: dict[str, npt.NDArray[Any]]
    starts: Int64


def select(hits: Hits, rows: Int64 | npt.NDArray[np.bool_]) -> Hits:
    """Return the hits at ``rows``."""

    def pick(column: npt.NDArray[Any] | None) -> Any:
        return None if column is None else column[rows]

    return Hits(
        seq=hits.seq[rows],
        observed=hits.observed[rows],
        threshold=hits.threshold[rows],
        severity=hits.severity[rows],
        subject=pick(hits.subject),
        counterparty=pick(hits.counterparty),
        time=pick(hits.time),
        region=pick(hits.region),
        amount=pick(hits.amount),
        group=pick(hits.group),
        history_since=pick(hits.history_since),
        related=pick(hits.related),
        extra={name: column[rows] for name, column in hits.extra.items()},
    )


def standing(hits: Hits, data_begin: int) -> Hits:
    """Return the hits that stand, given that the data begin at ``data_begin`` (µs)."""
    if hits.history_since is None:
        return hits
    stands = hits.history_since >= data_begin
    return hits if stands.all() else select(hits, stands)


def group_hits(
    hits: Hits,
    log: EventLog,
    view: RegistryView,
    vocabulary: Vocabulary,
    *,
    receiver_answers: bool = False,
) -> Grouped:
    """Fill defaults from the log and order ``hits`` by group (see :class:`Hits`)."""
    seq = np.asarray(hits.seq, np.int64)
    at = log.columns(
        (
            "code",
            "bill",
            "time",
            "source",
            "target",
            "drug",
            "batch_no",
            "price",
            "quantity",
            "event_key",
        ),
        seq,
    )
    code, bill = at["code"], at["bill"]
    time = at["time"] if hits.time is None else np.asarray(hits.time, np.int64)
    source, target = at["source"], at["target"]
    if receiver_answers:
        source, target = target, source
    subject = source if hits.subject is None else np.asarray(hits.subject, np.int32)
    counterparty = target if hits.counterparty is None else np.asarray(hits.counterparty, np.int32)
    if hits.region is None:
        region = np.where(subject >= 0, view.party_region[subject], np.int16(-1)).astype(np.int16)
    else:
        region = np.asarray(hits.region, np.int16)
    drug, batch_no = at["drug"], at["batch_no"]
    if hits.amount is None:
        price = at["price"].astype(np.int64)
        amount = np.where(price > 0, price * at["quantity"], 0)
    else:
        amount = np.asarray(hits.amount, np.int64)
    if hits.group is None:
        own = np.zeros(len(seq), np.uint64)
        key = np.where(bill != 0, bill ^ _BILL, code ^ (_CODE << np.uint64(62)))
    else:
        own = np.asarray(hits.group, np.uint64)
        key = own ^ (_OWN << np.uint64(61))
    day = time // DAY
    order = np.lexsort(
        (
            at["event_key"],
            time,
            _text_order(code, vocabulary),
            key,
            batch_no,
            drug,
            counterparty,
            subject,
            day,
        )
    )
    columns = (day, subject, counterparty, drug, batch_no, key)
    new = np.ones(len(seq), np.bool_)
    if len(seq):
        changed = np.zeros(len(seq) - 1, np.bool_)
        for column in columns:
            ordered = column[order]
            changed |= ordered[1:] != ordered[:-1]
        new[1:] = changed
    starts = np.append(np.flatnonzero(new), len(seq)).astype(np.int64)
    return Grouped(
        seq=seq[order],
        time=time[order],
        subject=subject[order],
        counterparty=counterparty[order],
        region=region[order],
        drug=drug[order],
        batch_no=batch_no[order],
        code=code[order],
        bill=bill[order],
        observed=np.asarray(hits.observed, np.float64)[order],
        threshold=np.asarray(hits.threshold, np.float64)[order],
        severity=np.asarray(hits.severity, np.float32)[order],
        amount=amount[order],
        own_group=own[order],
        related=None if hits.related is None else np.asarray(hits.related, np.int64)[order],
        extra={name: np.asarray(column)[order] for name, column in hits.extra.items()},
        starts=starts,
    )


def _text_order(code: npt.NDArray[np.uint64], vocabulary: Vocabulary) -> npt.NDArray[np.uint64]:
    """Return numbers that order like the texts of codes.

    Keys of national codes do; other codes were numbered on arrival and are numbered anew by text.
    """
    others = np.unique(code[code >= NATIONAL_LIMIT])
    if len(others) == 0:
        return code
    texts = [vocabulary.code_text(int(key)) for key in others]
    rank = np.empty(len(others), np.uint64)
    rank[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    out = code.copy()
    other = code >= NATIONAL_LIMIT
    out[other] = np.uint64(NATIONAL_LIMIT) + rank[np.searchsorted(others, code[other])]
    return out
