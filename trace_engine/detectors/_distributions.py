"""Two months' distributions over provinces, compared: see ``flow_shift``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


PROVINCES = 128  # two digits


@dataclass(frozen=True, slots=True)
class Side:
    """Consignments of one giver in one stretch of time; arrays of equal length."""

    customer: Int64
    drug: npt.NDArray[np.int32]
    province: npt.NDArray[np.int8]
    count: npt.NDArray[np.int32]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Side:
        return Side(
            self.customer[chosen], self.drug[chosen], self.province[chosen], self.count[chosen]
        )


def distinct(columns: list[npt.NDArray[Any]], *by: npt.NDArray[Any]) -> tuple[Int64, Int64]:
    """Return the order that brings equal rows together (among them by ``by``), and where runs begin."""
    order = np.lexsort([*by[::-1], *columns[::-1]])
    begins = np.ones(len(order), np.bool_)
    if len(order):
        begins[1:] = False
    for column in columns:
        ordered = column[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    return order, np.flatnonzero(begins)


def labels_of(target: npt.NDArray[np.int32], person: npt.NDArray[np.uint64]) -> Int64:
    """Return a number for each customer, shape ``(n,)``."""
    order, starts = distinct([target, person])
    labels = np.empty(len(order), np.int64)
    labels[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    return labels


class Comparison(NamedTuple):
    """Two sides held to each other, drugs of both only."""

    now: npt.NDArray[np.bool_]  # which consignments of the month were compared
    before: npt.NDArray[np.bool_]
    sizes: tuple[int, int]  # consignments
    gain: npt.NDArray[np.float64]  # of the share of each province
    shares: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    divergence: float
    shifted: bool


def compare(now: Side, before: Side, *, divergence: float, max_chance: float) -> Comparison | None:
    """Compare a month with the months before; None where no drug is common to both."""
    common = np.intersect1d(now.drug, before.drug)
    chosen, chosen_before = np.isin(now.drug, common), np.isin(before.drug, common)
    now, before = now.of(chosen), before.of(chosen_before)
    if len(common) == 0:
        return None
    n, m = int(now.count.sum()), int(before.count.sum())
    a = np.bincount(now.province, now.count, PROVINCES) / n
    b = np.bincount(before.province, before.count, PROVINCES) / m
    freedom = int(np.count_nonzero(a + b)) - 1
    customers = 1 / len(np.unique(now.customer)) + 1 / len(np.unique(before.customer))
    unit = customers / (8 * math.log(2))
    js = _jensen_shannon(a, b)
    shifted = (
        freedom > 0
        and js - freedom * unit >= divergence
        and js >= chi_square_quantile(1 - max_chance, freedom) * unit
    )
    return Comparison(chosen, chosen_before, (n, m), a - b, (a, b), js, shifted)


def _jensen_shannon(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return the Jensen-Shannon divergence of two distributions, base 2."""
    total = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        middle = (x + y) / 2
        total += sum(z * math.log2(z / middle) / 2 for z in (x, y) if z > 0)
    return total


def chi_square_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of chi-square (approximation of Wilson and Hilferty)."""
    part = 2 / (9 * freedom)
    z = NormalDist().inv_cdf(probability)
    return float(freedom * max(0.0, 1 - part + z * math.sqrt(part)) ** 3)


def most_marked(marks: npt.NDArray[Any]) -> int:
    """Return the commonest mark; of equally common ones the one that comes first."""
    values, first, number = np.unique(marks, return_index=True, return_counts=True)
    best = np.lexsort((first, -number))[0]
    return int(values[best])
