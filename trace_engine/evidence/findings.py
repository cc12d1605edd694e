"""Build the findings table from hits: one row a cause, with ids that a re-run gives again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.detectors.base import Detector, Hits, Jurisdiction
from trace_engine.events.batch import DATE_ONLY, Vocabulary
from trace_engine.events.findings import FINDINGS, MAXIMUM_CODES
from trace_engine.evidence.flows import FlowEdge, flow_text, flows_of
from trace_engine.evidence.grouping import Grouped, group_hits, standing
from trace_engine.evidence.paths import (
    PathEvent,
    path_events,
    path_text,
    time_text,
    with_borrowed,
)
from trace_engine.registry.jurisdiction import responsible_bureau
from trace_engine.registry.regions import load_regions

if TYPE_CHECKING:
    from trace_engine.core.contents import Holder
    from trace_engine.core.eventlog import EventLog
    from trace_engine.registry import RegistryView

SHANGHAI_OFFSET = 8 * 3600 * 1_000_000  # µs: wall clock to UTC
_SAMPLE = 5  # codes and events shown in evidence of a group
_encode = msgspec.json.Encoder(order="deterministic").encode

AnyDetector = Detector[Any]


class FindingsBuilder:
    """Turns hits into rows of ``FINDINGS``. Holds nothing that outlives a call but caches."""

    def __init__(
        self,
        detectors: Mapping[str, AnyDetector],
        log: EventLog,
        vocabulary: Vocabulary,
        view: RegistryView,
        policy_version: str,
        mask: Callable[[str], str],
    ) -> None:
        self.detectors = detectors
        self.mask = mask  # hides personal numbers where a bill or order number is expected
        self.log = log
        self.vocabulary = vocabulary
        self.view = view
        self.policy_version = policy_version
        self.holder: Holder | None = None  # where codes are known that move inside of others
        self.bureau = lru_cache(maxsize=100_000)(self._bureau)
        self.party_name = lru_cache(maxsize=100_000)(view.party_name)
        self.drug_name = lru_cache(maxsize=100_000)(view.drug_name)

    def build(self, hits: list[tuple[str, Hits]], data_begin: int) -> pa.Table:
        """Return the findings of ``hits`` ((detector id, hits) pairs), ordered by time and id."""
        by_detector: dict[str, list[Hits]] = {}
        for detector_id, some in hits:
            some = standing(some, data_begin)
            if len(some):
                by_detector.setdefault(detector_id, []).append(some)
        grouped: list[tuple[AnyDetector, Grouped]] = []
        for detector_id in sorted(by_detector):
            parts = by_detector[detector_id]
            joined = parts[0] if len(parts) == 1 else concat_hits(parts)
            detector = self.detectors[detector_id]
            receiver_answers = detector.answerable == "receiver"
            grouped.append(
                (
                    detector,
                    group_hits(
                        joined,
                        self.log,
                        self.view,
                        self.vocabulary,
                        receiver_answers=receiver_answers,
                    ),
                )
            )
        rows = self._rows(grouped)
        rows.sort(key=lambda row: (row["event_time"], row["finding_id"]))
        return pa.Table.from_pylist(rows, schema=FINDINGS)

    def _rows(self, grouped: list[tuple[AnyDetector, Grouped]]) -> list[dict[str, Any]]:
        """Build all rows; what they need of the log is fetched for all of them at once."""
        if not grouped:
            return []
        # One hit stands for its group in sentences: the first, that of the first code by text.
        leads = np.concatenate([g.seq[g.starts[:-1]] for _, g in grouped])
        texts = self.log.texts(["bill_code", "order_code", "buyer_id"], leads)
        for name in ("bill_code", "order_code"):
            texts[name] = [text and self.mask(text) for text in texts[name]]
        flags = self.log.column("flags", leads)
        by_code = np.concatenate([np.full(len(g.starts) - 1, d.key == "code") for d, g in grouped])
        offsets, numbers = self.log.paths(leads[by_code])
        borrowed = None
        if self.holder is not None:
            offsets, numbers, borrowed = with_borrowed(
                self.holder, leads[by_code], offsets, numbers
            )
        events = path_events(numbers, self.log, self.vocabulary, self.view, borrowed)
        for event in events:
            if event["bill_code"]:
                event["bill_code"] = self.mask(event["bill_code"])
        path_of = np.cumsum(by_code) - 1
        rested_on = self._event_ids([g for _, g in grouped])
        of_flows = [g for d, g in grouped if d.key != "code"]
        flows = iter(flows_of(of_flows, self.log, self.vocabulary, self.view))
        rows = []
        lead = 0
        for detector, g in grouped:
            for start, stop in pairwise(g.starts.tolist()):
                path: list[PathEvent] = []
                if by_code[lead]:
                    at = path_of[lead]
                    path = events[offsets[at] : offsets[at + 1]]
                rows.append(
                    self._row(
                        detector,
                        g,
                        slice(start, stop),
                        path,
                        [] if by_code[lead] else next(flows),
                        texts["bill_code"][lead],
                        texts["order_code"][lead],
                        texts["buyer_id"][lead],
                        bool(flags[lead] & DATE_ONLY),
                        rested_on[lead],
                    )
                )
                lead += 1
        return rows

    def _row(
        self,
        detector: AnyDetector,
        g: Grouped,
        members: slice,
        path: list[PathEvent],
        flow: list[FlowEdge],
        bill: str | None,
        order: str | None,
        buyer: str | None,
        date_only: bool,
        event_ids: set[str],
    ) -> dict[str, Any]:
        v, view, lead = self.vocabulary, self.view, members.start
        subject, counterparty = int(g.subject[lead]), int(g.counterparty[lead])
        keys = np.unique(g.code[members])
        codes = sorted(v.code_text(int(k)) for k in keys)[:MAXIMUM_CODES]
        worst = members.start + int(np.argmax(g.severity[members]))
        time = int(g.time[members].max())
        amount = int(g.amount[members].sum())
        subject_id, drug_id = v.parties.text(subject), v.drugs.text(int(g.drug[lead]))
        batch_no = v.batches.text(int(g.batch_no[lead]))
        # One pack: its path, then what else it rests on. Several: the events that fired.
        on_path = [str(e["event_id"]) for e in path] if len(codes) == 1 else []
        ids = on_path + sorted(event_ids - set(on_path))
        group_text = (
            f"own:{int(g.own_group[lead]):016x}"
            if g.own_group[lead]
            else (f"bill:{bill}" if bill else f"code:{codes[0]}")
        )
        day = time_text(int(g.time[lead]), True)
        finding_id = _finding_id(
            detector.id,
            subject_id,
            v.parties.text(counterparty),
            drug_id,
            batch_no,
            group_text,
            day,
        )
        regions = load_regions()
        region = int(g.region[lead])
        fields: dict[str, Any] = {
            "code": codes[0],
            "code_count": len(keys),
            "packs_zh": f"追溯码{codes[0]}" + (f"等{len(keys)}个包装" if len(keys) > 1 else ""),
            "bill": bill or "—",
            "order": order or "—",
            "buyer": buyer or "—",
            "batch_no": batch_no or "—",
            "time": time_text(time, date_only),
            "date": time_text(time, True),
            "observed": float(g.observed[worst]),
            "threshold": float(g.threshold[worst]),
            "amount": amount / 100,
        }
        extras = {name: _plain(column[worst]) for name, column in g.extra.items()}
        sentences = {}
        for lang, template in (("zh", detector.sentence_zh), ("en", detector.sentence_en)):
            local = dict(fields)
            local["subject"] = self.party_name(subject) if subject >= 0 else _unknown(lang)
            local["counterparty"] = (
                self.party_name(counterparty) if counterparty >= 0 else _unknown(lang)
            )
            local["drug"] = self.drug_name(int(g.drug[lead])) or drug_id
            local["region"] = regions.name(region) if region >= 0 else _unknown(lang)
            local["path"] = path_text(path, lang) if path else "—"
            local["flow"] = flow_text(flow, lang) if flow else "—"
            for name, value in extras.items():
                local[name] = self._extra_text(name, value, lang)
            sentences[lang] = template.format_map(local)
        evidence = {
            "path": path,
            "flow": flow,
            "codes_sample": codes[:_SAMPLE],
            "values": {name: self._extra_text(name, value, "zh") for name, value in extras.items()},
        }
        return {
            "finding_id": finding_id,
            "detector": detector.id,
            "family": str(detector.family),
            "severity": float(g.severity[worst]),
            "event_time": time - SHANGHAI_OFFSET,
            "subject_id": subject_id,
            "subject_type": view.enterprise_type_name(subject, "code") if subject >= 0 else "",
            "counterparty_id": v.parties.text(counterparty),
            "drug_id": drug_id,
            "batch_no": batch_no,
            "code": codes[0],
            "code_count": len(keys),
            "codes": codes,
            "bill_code": bill,
            "order_code": order,
            "buyer_id": buyer,
            "region": regions.code(region) if region >= 0 else "",
            "observed": float(g.observed[worst]),
            "threshold": float(g.threshold[worst]),
            "unit": detector.unit,
            "amount": amount / 100 if amount > 0 else None,
            "event_ids": ids,
            "title_zh": detector.title_zh,
            "title_en": detector.title_en,
            "explanation_zh": sentences["zh"],
            "explanation_en": sentences["en"],
            "evidence": _encode(evidence).decode(),
            "basis": detector.basis,
            "jurisdiction": self.bureau(subject, region, detector.jurisdiction),
            "policy_version": self.policy_version,
        }

    def _event_ids(self, grouped: list[Grouped]) -> list[set[str]]:
        """Ids of the events each group rests on (at most ``MAXIMUM_CODES`` hits of each)."""
        seqs: list[npt.NDArray[np.int64]] = []
        owners: list[npt.NDArray[np.int64]] = []
        groups = 0
        for g in grouped:
            counts = np.diff(g.starts)
            owner = groups + np.repeat(np.arange(len(counts)), counts)
            seqs.append(g.seq)
            owners.append(owner)
            if g.related is not None:
                more = g.related.reshape(len(g.seq), -1)
                seqs.append(more.reshape(-1))
                owners.append(np.repeat(owner, more.shape[1]))
            groups += len(counts)
        number, of_group = np.concatenate(seqs), np.concatenate(owners)
        number, of_group = number[number >= 0], of_group[number >= 0]
        out: list[set[str]] = [set() for _ in range(groups)]
        for group, text in zip(of_group.tolist(), self.log.text("event_id", number), strict=True):
            if len(out[group]) < MAXIMUM_CODES:
                out[group].add(str(text))
        return out

    def _extra_text(self, name: str, value: Any, lang: str) -> Any:
        if name.endswith("_party"):
            return self.party_name(value) if value >= 0 else _unknown(lang)
        if name.endswith("_region"):
            return load_regions().name(value) if value >= 0 else _unknown(lang)
        if name.endswith("_time"):
            return time_text(value, value % 86_400_000_000 == 0)
        return value

    def _bureau(self, subject: int, region: int, jurisdiction: Jurisdiction) -> str:
        if subject < 0:
            return ""
        code = self.view.party_region_code(subject)
        if not code and region >= 0:
            code = load_regions().code(region)
        bureau = responsible_bureau(int(self.view.party_type[subject]), code)
        if jurisdiction == Jurisdiction.HEALTH_INSURANCE:
            return f"{bureau}；线索同时移送医疗保障部门"
        return bureau


def concat_hits(parts: list[Hits]) -> Hits:
    """Join hits of one detector; a column that only some have is an error of the detector."""

    def join(name: str) -> Any:
        columns = [getattr(p, name) for p in parts]
        if columns[0] is None:
            assert all(c is None for c in columns), f"{name} is set on some hits only"
            return None
        return np.concatenate(columns)

    names = list(parts[0].extra)
    return Hits(
        seq=join("seq"),
        observed=join("observed"),
        threshold=join("threshold"),
        severity=join("severity"),
        subject=join("subject"),
        counterparty=join("counterparty"),
        time=join("time"),
        region=join("region"),
        amount=join("amount"),
        group=join("group"),
        history_since=join("history_since"),
        related=join("related"),
        extra={name: np.concatenate([np.asarray(p.extra[name]) for p in parts]) for name in names},
    )


def _finding_id(*parts: str) -> str:
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=10)
    return "F" + digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _unknown(lang: str) -> str:
    return "（未知）" if lang == "zh" else "(unknown)"
