"""Errors of the output folder, each with its sentence in Chinese and English."""

from __future__ import annotations


class OutputError(Exception):
    """The output folder cannot be written or read as asked."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en


class ConservationError(OutputError):
    """Rows read are not the sum of events, duplicates and rejects: a row was lost or invented."""

    def __init__(self, rows: int, parts: int) -> None:
        super().__init__(
            f"行数不守恒：读入 {rows} 行，事件＋重复＋拒收共 {parts} 行",
            f"rows are not conserved: {rows} read, events + duplicates + rejects are {parts}",
        )
        self.rows = rows
        self.parts = parts
