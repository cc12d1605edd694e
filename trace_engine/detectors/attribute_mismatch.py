"""Attribute mismatch 批号/效期/品种不符 (C8): an event states another attribute than the code carries.

Of a code's events by time (equal times: by a hash of their ids; look-ups, voids and unknown types left
out), the first that states a batch number, an expiry or a drug tells what the code carries. Fires on
the first later event that states another one, once for each code and attribute. Expiries agree if
they are in one month and either was stated as a month only. A drug counts only where the row
declares one. A void that cancels an event of the code makes it forget: what it carries, and what was
reported, is learned anew from then on.

observed = attributes that differ, threshold 0. The subject is the enterprise that uploaded the event.
Severity: expiry 0.2, batch number 0.3, drug 0.4 (the highest of them).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trace_engine.core.attributes import BATCH, DRUG, EXPIRY
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import MISSING_DAY

_NAMES = ((BATCH, "批号", "batch number"), (EXPIRY, "有效期", "expiry"), (DRUG, "品种", "drug"))
_ZH = np.array(["、".join(zh for bit, zh, _ in _NAMES if i & bit) for i in range(8)])
_EN = np.array([" and ".join(en for bit, _, en in _NAMES if i & bit) for i in range(8)])
_SEVERITY = np.array([0, 0.3, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4], np.float32)


class AttributeMismatch(Detector[Parameters]):
    """See the module."""

    id: ClassVar[str] = "attribute_mismatch"
    title_zh: ClassVar[str] = "批号/效期/品种不符"
    title_en: ClassVar[str] = "Attributes do not match"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.CODE
    key: ClassVar[str] = "code"
    rows: ClassVar[tuple[str, ...]] = ("C8",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：追溯码异常（批号、有效期与码不符）"
    )
    unit: ClassVar[str] = "attributes"
    needs: ClassVar[tuple[str, ...]] = ("batch_no", "expiry_date", "drug_id")
    false_positives: ClassVar[str] = (
        "Expiries given as a month only, drugs that were not declared but read from the code, "
        "rows corrected by a void and a new upload (none of them is judged). One wrong upload is "
        "reported once for each code."
    )
    false_positives_zh: ClassVar[str] = (
        "有效期只填到月；品种并非填报而是由追溯码得出；先冲红再重新上传的更正：均不判定。"
        "同一码同一处错误只报一次。"
    )
    parameters: ClassVar[type[Parameters]] = Parameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}上传的{drug}{packs_zh}，{which_zh}与该码首次记录不符：本次批号{batch_no}，"
        "首次记录为批号{first_batch}、有效期{first_expiry}、品种{first_drug}。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} recorded {code_count} pack(s) of {drug}, e.g. code {code} ({time}), with another "
        "{which_en} than the code first carried: now batch {batch_no}, first batch {first_batch}, "
        "expiry {first_expiry}, drug {first_drug}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Report what custody found; there is nothing to set."""
        b = data.batch
        found = data.custody.mismatches
        if found is None:
            return Verdict(None, 0, {"no_attributes": len(data)} if len(data) else {})
        stated = (b.batch_no >= 0) | (b.expiry != MISSING_DAY)
        judged = int(np.count_nonzero(stated))
        v, rows = data.vocabulary, found.rows
        days = np.where(found.expiry == MISSING_DAY, 0, found.expiry).astype("datetime64[D]")
        expiries = np.where(found.expiry == MISSING_DAY, "—", days.astype(str))
        hits = hits_of(
            data,
            rows,
            observed=_COUNT[found.which],
            threshold=0,
            severity=_SEVERITY[found.which],
            subject=b.actor[rows],
            counterparty=np.full(len(rows), -1, np.int32),
            extra={
                "which_zh": _ZH[found.which],
                "which_en": _EN[found.which],
                "first_batch": np.array(
                    [v.batches.text(i) or "—" for i in found.batch_no.tolist()]
                ),
                "first_expiry": expiries,
                "first_drug": np.array([v.drugs.text(i) or "—" for i in found.drug.tolist()]),
            },
        )
        skipped = len(data) - judged
        return Verdict(hits, judged, {"no_attributes": skipped} if skipped else {})


_COUNT = np.array([bin(i).count("1") for i in range(8)])
