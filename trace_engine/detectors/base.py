"""What a detector is: one file that declares everything the rest of the system needs to know.

A detector sees a :class:`Slice` (whole days of events in order, with what custody found out about
each) and answers with a :class:`Verdict`. It never reads strings, files or the clock.

Two shapes:

* :class:`Detector`: judges the events of a slice one by one, from the batch and from custody.
* :class:`KeyedDetector`: keeps state across codes (by buyer, order, seller and drug, ...). It first
  *selects* rows of a slice and then *advances* its state over them. The two steps are apart so that
  rows selected in engines that each saw a part of the codes can be merged and judged together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.picking import counts_of, rows_with
from trace_engine.events.batch import OPTIONAL_COLUMNS
from trace_engine.events.kinds import INFO, EventKind, Role

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.core.signals import Custody
    from trace_engine.events.batch import EventBatch, Vocabulary
    from trace_engine.policy import Policy
    from trace_engine.registry import RegistryView

Int64 = npt.NDArray[np.int64]

ROLE_OF: npt.NDArray[np.int8] = np.array([int(INFO[kind].role) for kind in EventKind], np.int8)
"""Role by kind, shape ``(number of kinds,)``."""


def kinds_with(roles: Iterable[Role]) -> npt.NDArray[np.bool_]:
    """Return which kinds have any of ``roles``, by kind."""
    wanted = np.zeros(len(Role), np.bool_)
    wanted[[int(role) for role in roles]] = True
    found: npt.NDArray[np.bool_] = wanted[ROLE_OF]
    return found


class Family(StrEnum):
    """The two families are counted, ranked and shown apart."""

    DATA_QUALITY = "data_quality"
    SUSPECTED_VIOLATION = "suspected_violation"


class Evidence(StrEnum):
    """Independent kinds of evidence; ranking combines across them, not within (see ranking)."""

    CUSTODY = "custody"  # how codes moved
    CODE = "code"  # state of the code itself
    REGION = "region"
    PRICE = "price"
    QUANTITY = "quantity"
    CATEGORY = "category"
    LICENCE = "licence"
    SCANNING = "scanning"
    NETWORK = "network"


class Jurisdiction(StrEnum):
    """Who must act, before the registry says where the subject is (domain: routing table)."""

    SUBJECT = "subject"  # by the subject's type: provincial bureau or county market regulator
    HEALTH_INSURANCE = "health_insurance"  # also the insurance fund's supervisor
    HEALTH_COMMISSION = "health_commission"


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every detector's thresholds.

    Each field is ``Annotated[type, msgspec.Meta(ge=..., le=..., description="English",
    extra_json_schema={"unit": "hops", "zh": "中文说明"})]`` with a default equal to the default
    policy's value. Values, sources and effective dates come from the policy file.
    """


P = TypeVar("P", bound=Parameters)
T = TypeVar("T")

# By registry view: what Slice.table built, with the size of the vocabulary it was built for.
_TABLES: WeakKeyDictionary[RegistryView, dict[Hashable, tuple[tuple[int, ...], Any]]] = (
    WeakKeyDictionary()
)


@dataclass(slots=True)
class Hits:
    """Events (or deadlines) that fired, as columns of equal length ``m``.

    ``seq`` is the event's number in the engine's log. Columns left ``None`` take their default from
    that event: ``time`` its time, ``subject`` its giver, ``counterparty`` its receiver, ``region``
    the subject's registered region. ``group``: hits of one day with equal subject, counterparty,
    drug, batch number and group become one finding; ``None`` groups by the bill, or where there is
    none, by the code. ``extra`` columns are available to the sentence templates by name; integer
    columns named ``*_party`` / ``*_region`` are turned into names, ``*_time`` into dates.
    """

    seq: Int64
    observed: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    severity: npt.NDArray[np.float32]
    subject: npt.NDArray[np.int32] | None = None
    counterparty: npt.NDArray[np.int32] | None = None
    time: Int64 | None = None
    region: npt.NDArray[np.int16] | None = None
    amount: Int64 | None = None  # fen at stake
    group: npt.NDArray[np.uint64] | None = None
    # A hit stands only if the data begin at or before this time (µs); None: always stands.
    history_since: Int64 | None = None
    # Further events the hit rests on: (m, k) log numbers, -1 for none.
    related: Int64 | None = None
    extra: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.seq)


@dataclass(slots=True)
class Verdict:
    """What a detector says of a slice: its hits, and what it judged or had to skip, and why."""

    hits: Hits | None = None
    judged: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> events


@dataclass(slots=True)
class Slice:
    """Whole days of accepted events in time order, as every detector sees them.

    No slice straddles a day on which a policy value or list changes.
    """

    batch: EventBatch
    seq_base: int  # log number of row 0; row i has number seq_base + i
    custody: Custody
    registry: RegistryView
    policy: Policy
    vocabulary: Vocabulary
    first_day: int  # days since 1970-01-01
    last_day: int
    data_begin: int  # time (µs) of the first event this engine ever saw

    log: EventLog | None = None  # None: a slice made by hand, without a past
    # What other detectors found in this slice; only for those with ``after_others``.
    hits: Mapping[str, Hits] = field(default_factory=dict)
    _rows: dict[frozenset[Role], Int64] = field(default_factory=dict)
    _shared: dict[Hashable, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.batch)

    def rows_of(self, *roles: Role) -> Int64:
        """Return the rows of events with any of ``roles``, ascending; found once for all who ask."""
        wanted = frozenset(roles)
        found = self._rows.get(wanted)
        if found is None:
            counts = self.shared(_kind_counts)
            found = rows_with(self.batch.kind, kinds_with(wanted), counts)
            self._rows[wanted] = found
        return found

    def count_of(self, *roles: Role) -> int:
        """Return how many events have any of ``roles``, where their rows are not needed."""
        return int(self.shared(_kind_counts)[kinds_with(roles)].sum())

    def shared(self, build: Callable[..., T], *also: Hashable) -> T:
        """Return ``build(slice, *also)``, made once for all who ask it of this slice."""
        key = (build, also)
        if key not in self._shared:
            self._shared[key] = build(self, *also)
        found: T = self._shared[key]
        return found

    def table(self, build: Callable[..., T], *also: Hashable) -> T:
        """Return ``build(slice, *also)``, made anew only once the vocabulary has grown.

        For what follows from the registry and the vocabulary alone, such as marks by party or by
        drug. What else it depends on (policy and its segment, parameters) must stand in ``also``.
        """
        view = self.registry
        tables = _TABLES.setdefault(view, {})
        size = (len(view.party_row), len(view.drug_row), len(view.platform_party))
        found = tables.get((build, also))
        if found is None or found[0] != size:
            found = tables[build, also] = (size, build(self, *also))
        value: T = found[1]
        return value

    def look_up(self, names: Sequence[str], seqs: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return numeric columns of the log (``LOG_COLUMNS``) at log numbers of this or past slices.

        Each past slice asked costs a look: ask for few and all at once.
        """
        if self.log is None or len(seqs) == 0 or int(seqs.min()) >= self.seq_base:
            return {name: self._column(name)[seqs - self.seq_base] for name in names}
        return self.log.columns(names, seqs)

    def _column(self, name: str) -> npt.NDArray[Any]:
        if name == "previous":
            return self.custody.previous
        found = self.batch.optional.get(name)
        if found is not None:
            return found
        if name in OPTIONAL_COLUMNS:
            dtype, missing = OPTIONAL_COLUMNS[name]
            return np.full(len(self.batch), missing, dtype)
        column: npt.NDArray[Any] = getattr(self.batch, name)
        return column

    @property
    def seq(self) -> Int64:
        """Log numbers of all rows, shape ``(n,)``."""
        return np.arange(self.seq_base, self.seq_base + len(self.batch), dtype=np.int64)


def _kind_counts(data: Slice) -> Int64:
    """Return how many events of each kind there are."""
    return counts_of(data.batch.kind, len(ROLE_OF))


class Detector(ABC, Generic[P]):
    """One rule of the catalogue. Subclasses set the class attributes and :meth:`judge`."""

    id: ClassVar[str]
    title_zh: ClassVar[str]
    title_en: ClassVar[str]
    family: ClassVar[Family]
    evidence: ClassVar[Evidence]
    key: ClassVar[str]  # what its state hangs on: "code", "buyer and class", "none", ...
    rows: ClassVar[tuple[str, ...]]  # rows of the feature matrix it serves: "G3", "C4", ...
    basis: ClassVar[str]  # notice or article it serves, as a case officer would cite it
    unit: ClassVar[str]  # unit of observed and threshold
    needs: ClassVar[tuple[str, ...]] = ()  # "registry.enterprises", "unit_price", ...
    jurisdiction: ClassVar[Jurisdiction] = Jurisdiction.SUBJECT
    # Who of the two sides of an event answers for it, where a hit does not say: the other one is
    # the counterparty.
    answerable: ClassVar[Literal["giver", "receiver"]] = "giver"
    # What is known to look like it without being it, and how that is kept out (for the catalogue).
    false_positives: ClassVar[str] = ""
    false_positives_zh: ClassVar[str] = ""  # the same in Chinese
    parameters: ClassVar[type[Parameters]] = Parameters
    # Judges what the others found (Slice.hits): asked after all of them. Its hits are its own matter.
    after_others: ClassVar[bool] = False
    # str.format templates. Fields: subject, counterparty, drug, batch_no, code, code_count,
    # packs_zh (the code and, of several, their number), bill,
    # order, buyer, time, date, observed, threshold, amount, region, path (of a code), flow (who gave
    # to whom, of detectors with another key), and the extras.
    sentence_zh: ClassVar[str]
    sentence_en: ClassVar[str]

    @abstractmethod
    def judge(self, data: Slice, parameters: P) -> Verdict:
        """Judge the events of ``data``. Inputs must not be written to."""


State = dict[str, Any]  # name -> numpy array or plain int/float/str/list/dict (JSON)
LookUp = Callable[[Sequence[str], Int64], dict[str, npt.NDArray[Any]]]  # see Slice.look_up
Rows = dict[str, npt.NDArray[Any]]  # equal-length columns; always "seq", "time", "event_key"


class KeyedDetector(Detector[P]):
    """A detector whose state spans codes.

    ``select`` gives the rows of a slice that matter, as columns (all numbers); the engine orders
    them by ``(time, event_key)`` only where a merge demands it, so ``advance`` must not depend on
    the order of rows with equal time, and may be called with any number of whole days at once.
    Columns named as in EventBatch (source, drug, batch_no, ...) or ``*_party`` hold numbers of the
    vocabulary, which a merge translates; other columns must not.
    """

    @abstractmethod
    def select(self, data: Slice, parameters: P) -> tuple[Rows, Verdict]:
        """Return the rows to remember and a verdict without hits (judged and skipped)."""

    @abstractmethod
    def new_state(self) -> State:
        """Return empty state; it must survive ``save``/``load`` (arrays and JSON values only)."""

    @abstractmethod
    def advance(self, rows: Rows, state: State, parameters: P, last_day: int) -> Hits | None:
        """Move ``state`` over ``rows`` (whole days, time ascending) up to the end of ``last_day``."""

    def judge(self, data: Slice, parameters: P) -> Verdict:
        """Select and advance at once with fresh state; the engine calls the two itself."""
        rows, verdict = self.select(data, parameters)
        verdict.hits = self.advance(rows, self.new_state(), parameters, data.last_day)
        return verdict


class ClueDetector(KeyedDetector[P]):
    """A keyed detector that judges what others found, beside rows of its own.

    The rows of :meth:`select` and of :meth:`select_clues` have the same columns and are advanced
    over together. After a merge clues are selected anew from all hits.
    """

    after_others = True

    @abstractmethod
    def select_clues(
        self,
        hits: Iterable[tuple[str, Hits]],
        catalogue: Mapping[str, Detector[Any]],
        look_up: LookUp,
        registry: RegistryView,
    ) -> Rows:
        """Return rows of ``hits`` (detector id, hits) of suspected violations that stand.

        ``catalogue`` has every detector by id.
        """


def hits_of(
    data: Slice,
    rows: Int64,
    *,
    observed: npt.ArrayLike,
    threshold: npt.ArrayLike,
    severity: npt.ArrayLike,
    **columns: Any,
) -> Hits | None:
    """Build :class:`Hits` for the rows ``rows`` of a slice; scalars are spread. None if empty."""
    m = len(rows)
    if m == 0:
        return None
    return Hits(
        seq=data.seq_base + np.asarray(rows, np.int64),
        observed=np.broadcast_to(np.asarray(observed, np.float64), m),
        threshold=np.broadcast_to(np.asarray(threshold, np.float64), m),
        severity=np.clip(np.broadcast_to(np.asarray(severity, np.float32), m), 0, 1),
        **columns,
    )


def in_order(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all ``parts`` (equal columns, at least one part) by time and event key."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((rows["event_key"], rows["time"]))
    return {name: column[order] for name, column in rows.items()}
