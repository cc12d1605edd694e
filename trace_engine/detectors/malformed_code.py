"""Malformed code 码制不合法 (C2): a code that no coding standard could have produced.

Definition
----------
Judged: every event that carries a code, but look-ups (``verification``, skipped as ``look_up``:
anybody may type anything) and quantity-only bills (106, 210), which carry none.

*Fires* when ``code_problem`` is not 0: the structure is none of the known ones, the check digit of
the GTIN is wrong, or 20 digits do not begin with 8. The subject is the enterprise that scanned (the
actor). Hits of one actor, day and kind of problem are one finding. observed = 1 malformed code,
threshold = 0. Severity by the worst problem: structure 0.5, check digit 0.4, first digit 0.3.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import CODE_CHECK_DIGIT, CODE_STRUCTURE
from trace_engine.events.kinds import CODELESS, EventKind

_ZH = {
    "structure": "结构不符合任何编码标准",
    "check": "GTIN校验位错误",
    "header": "20位码首位不是8",
}
_EN = {
    "structure": "a structure no coding standard has",
    "check": "a wrong GTIN check digit",
    "header": "20 digits that do not begin with 8",
}


class MalformedCode(Detector[Parameters]):
    """Codes against the coding standard."""

    id: ClassVar[str] = "malformed_code"
    title_zh: ClassVar[str] = "码制不合法"
    title_en: ClassVar[str] = "Malformed code"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.CODE
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("C2",)
    basis: ClassVar[str] = "《药品追溯码编码要求》（NMPAB/T 1002—2019）"
    unit: ClassVar[str] = "codes"
    false_positives: ClassVar[str] = (
        "Hand-typed codes, scanners set up as keyboards, separators lost between the fields of a "
        "GS1 code. A cluster at one scanner is a matter for its operator; a cluster on one drug "
        "points at the packs."
    )
    false_positives_zh: ClassVar[str] = (
        "手工录入的码、设成键盘模式的扫码枪、GS1码各字段之间丢失分隔符。集中在一台扫码枪上，应找操作者；"
        "集中在一个品种上，应查包装。"
    )
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}上传{code_count}个不合规追溯码（如{code}）：{problem_zh}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} uploaded {code_count} malformed code(s), such as {code}: {problem_en}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the codes of a slice."""
        batch = data.batch
        look_up = batch.kind == int(EventKind.VERIFICATION)
        judged = ~look_up & ~np.isin(batch.kind, [int(kind) for kind in CODELESS])
        rows = np.flatnonzero(judged & (batch.code_problem != 0))
        problem = batch.code_problem[rows]
        worst = np.where(
            problem & CODE_STRUCTURE, 0, np.where(problem & CODE_CHECK_DIGIT, 1, 2)
        ).astype(np.int64)
        skipped = int(np.count_nonzero(look_up))
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=1,
                threshold=0,
                severity=np.array([0.5, 0.4, 0.3])[worst],
                subject=batch.actor[rows],
                counterparty=np.full(len(rows), -1, np.int32),
                group=(worst + 1).astype(np.uint64),
                extra={
                    "problem_zh": np.array(list(_ZH.values()))[worst],
                    "problem_en": np.array(list(_EN.values()))[worst],
                },
            ),
            judged=int(np.count_nonzero(judged)),
            skipped={"look_up": skipped} if skipped else {},
        )
