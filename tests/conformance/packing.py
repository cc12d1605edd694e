"""Random histories of packs in cartons in cases, for hypothesis: codes that move inside of others.

On top of the noise and chains of ``strategies``: codes are packed, unpacked, stated as parents,
replaced and made void, in trees up to five levels deep and in circles that make no sense.
"""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.conformance.strategies import (
    CODES,
    DRUGS,
    INCOMING,
    OUTGOING,
    PARTIES,
    Case,
    Row,
    _attributes,
    _stamp,
    chain,
    finish,
    make_registry,
    noise,
)

OUTER = tuple(f"{DRUGS[0]}{serial:013d}" for serial in (101, 102, 103))
NEW = f"{DRUGS[0]}{201:013d}"
RATIOS = ("4片/盒×1盒/箱", "3片×2板/盒×1盒/中盒×2中盒/箱", "1:1")


def parents_of(r: random.Random, codes: tuple[str, ...]) -> dict[str, str]:
    """Return a parent for most codes: a tree, or now and then a circle."""
    order = [*codes, *OUTER]
    found = {}
    for place, code in enumerate(order[:-1]):
        if r.random() < 0.85:
            above = order[max(place + 1, len(codes)) :]
            found[code] = r.choice(order if r.random() < 0.03 else above)
    return found


def packing_rows(r: random.Random, parent: dict[str, str], span: int, dated: float) -> list[Row]:
    """Return events that put codes into others, take them out, or replace them."""
    rows: list[Row] = []

    def add(kind: str, code: str, outer: str | None) -> None:
        row: Row = {
            "event_time": _stamp(r, r.randrange(span), dated),
            "event_type": kind,
            "code": code,
            "actor_id": r.choice(PARTIES),
        }
        if outer is not None:
            row["parent_code"] = outer
        if r.random() < 0.3:
            row["bill_code"] = r.choice(("B1", "B2"))
        rows.append(row)

    for code, outer in parent.items():
        if r.random() < 0.85:
            add("pack", code, outer)
        if r.random() < 0.2:
            add("unpack", code, outer)
        if r.random() < 0.1:
            add("pack", code, r.choice(OUTER))
        if r.random() < 0.15:
            add("unpack", outer, None)
        if r.random() < 0.1:
            add("code_replacement", NEW, r.choice((code, outer)))
    early = sorted(rows, key=lambda row: row["event_time"])
    for row in early[: len(early) // 2]:
        if r.random() < 0.6:
            row["event_time"] = _stamp(r, 0, dated)
    return rows


def packed_history(r: random.Random, codes: int, events: int) -> tuple[Row, ...]:
    """Return rows of ``codes`` packs and of what they are packed in."""
    inner = tuple(
        CODES[number] if number < len(CODES) else f"{DRUGS[number % 2]}{number:013d}"
        for number in range(codes)
    )
    parent = parents_of(r, inner)
    dated = r.choice((0.0, 0.1, 0.5, 1.0))
    span = r.choice((1, 2, 6, 80))
    rows = packing_rows(r, parent, span, dated)
    for code in (*inner, *OUTER, NEW):
        count = r.randint(0, events) if code != NEW else r.randint(0, 2)
        if r.random() < 0.4:
            rows += noise(r, code, count, span, dated)
        else:
            rows += chain(r, code, max(1, count // 2), dated)
    for row in rows:
        if row["event_type"] in (*OUTGOING, *INCOMING, "321", "202", "103", "104"):
            code = row["code"]
            if code in parent and r.random() < 0.25:
                row["parent_code"] = parent[code] if r.random() < 0.9 else r.choice(OUTER)
            if code in parent and r.random() < 0.1:  # listed beside its parent
                row = dict(row)
                row["code"] = parent[code]
                row.pop("parent_code", None)
                rows.append(_attributes(r, row))
    return finish(r, rows)


def registry_with_ratios(
    r: random.Random,
) -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[Row, ...]]:
    """Return enterprises, drugs and recalls; of most drugs it is said what a case holds."""
    enterprises, drugs, recalls = make_registry(r)
    said = [{**drug, "pack_spec": r.choice((drug["pack_spec"], *RATIOS))} for drug in drugs]
    return enterprises, tuple(said), recalls


def packed_case(seed: int, codes: int = 3, events: int = 6) -> Case:
    """Return the case of a seed: the same for ever."""
    r = random.Random(seed)
    return Case(*registry_with_ratios(r), packed_history(r, codes, events))


def packed_cases(codes: int = 3, events: int = 6) -> st.SearchStrategy[Case]:
    """Return a strategy of cases."""
    return st.builds(
        lambda r: Case(*registry_with_ratios(r), packed_history(r, codes, events)),
        st.randoms(use_true_random=False),
    )
