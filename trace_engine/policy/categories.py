"""Which drugs are on which list on which day: online ban, schedules, restricted classes.

A drug's class comes from the registry (``drugs.classes``) and from the policy's rules, which match
generic names. Where a rule dates a class (dextromethorphan is class II from 2024-07-01), the rule
decides: before that day the drug is not in the class, though today's registry says it is.

A drug is *classified*, so that being on no list means something, when a list holds it, or when its
generic name is known: ``generic_name`` in Chinese, or a product ``name`` that ends with a dosage form
and holds no listed ingredient beside other text (a brand and 胺碘酮 in one piece may be that drug or
a compound of it). All others are reported as unmatched, never taken for safe.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.policy import Policy, Rule
from trace_engine.policy.names import (
    NAMELESS,
    PARTNERS,
    GenericName,
    ingredients,
    is_chinese,
    parse_generic_name,
    parse_product_name,
)
from trace_engine.registry.view import RegistryView

ONLINE_BAN = "online_ban"

Bools = npt.NDArray[np.bool_]


class Reason(NamedTuple):
    """Why a drug is on a list, in both languages, with the source."""

    zh: str
    en: str
    source: str


class _Segment(NamedTuple):
    """What holds between two days on which the policy changes. Arrays by row, last = unknown."""

    classes: dict[str, Bools]
    banned: Bools
    bans: list[tuple[Rule, Bools]]


class Categories:
    """Lists of a policy as boolean arrays by drug id of a registry view.

    Results follow the vocabulary: call again after the view has been refreshed. Drugs the registry
    does not know, or of which it knows no generic name, are on no list; :attr:`unmatched` counts
    them and :meth:`unmatched_names` names them, so that silence is not taken for safety.
    """

    def __init__(self, policy: Policy, view: RegistryView) -> None:
        self.policy = policy
        self.view = view
        self._rules = policy.rules()
        table = view.registry.table("drugs")
        n = 0 if table is None else int(table.num_rows)
        self._bits = dict(view.class_bits)
        self._masks = view.row_classes()
        self._names, self._readings, stated = self._parse_names(n)
        self._compound: Bools = self._flag("compound") | np.array(
            [p.compound for p in self._names], np.bool_
        )
        self._routes = {
            "injection": self._route("injection") | self._flag("injection"),
            "topical": self._route("topical") | self._flag("topical"),
            "inhaled": self._route("inhaled"),
        }
        # A name without a form (阿莫西林) is taken to be oral: other routes are nearly always said.
        unclear = np.array([bool(p.base) and p.route is None for p in self._names], np.bool_)
        other = self._routes["injection"] | self._routes["topical"]
        self._routes["oral"] = (self._route("oral") | unclear) & ~other
        self._index_readings()
        self._text_matches: dict[str, Bools] = {r.id: self._by_text(r) for r in self._rules}
        self._judgeable_rows: Bools = self._classified(stated)
        self._segments: dict[int, _Segment] = {}

    def online_banned(self, day: int) -> Bools:
        """Return, by drug id, which drugs may not be sold online on ``day``."""
        banned: Bools = self._segment(day).banned[self.view.drug_row]
        return banned

    def restricted(self, class_name: str, day: int) -> Bools:
        """Return, by drug id, which drugs are in ``class_name`` on ``day``."""
        rows = self._segment(day).classes.get(class_name)
        if rows is None:
            return np.zeros(len(self.view.drug_row), np.bool_)
        found: Bools = rows[self.view.drug_row]
        return found

    def reason(self, drug_id: int, day: int) -> Reason | None:
        """Return the clause that bans a drug from online sale on ``day``, or None."""
        row = -1 if drug_id < 0 else int(self.view.drug_row[drug_id])
        for rule, rows in self._segment(day).bans:
            if rows[row]:
                return Reason(rule.title_zh, rule.title_en, rule.source)
        return None

    def class_reason(self, drug_id: int, class_name: str, day: int) -> Reason | None:
        """Return the rule that puts a drug in ``class_name`` on ``day``.

        None where the registry alone says so (or nobody does).
        """
        row = -1 if drug_id < 0 else int(self.view.drug_row[drug_id])
        classes = self._segment(day).classes
        for rule in self._rules:
            if rule.list == class_name and rule.holds(day) and self._fits(rule, classes)[row]:
                return Reason(rule.title_zh, rule.title_en, rule.source)
        return None

    @property
    def judgeable(self) -> Bools:
        """By drug id: the drug is classified, so that lists can be applied to it."""
        judgeable: Bools = self._judgeable_rows[self.view.drug_row]
        return judgeable

    @property
    def unmatched(self) -> int:
        """Number of drugs seen that no list could be applied to."""
        return int(np.count_nonzero(~self.judgeable))

    def unmatched_names(self, limit: int = 50) -> list[str]:
        """Return up to ``limit`` of the unmatched drugs, ``id name`` in order of id."""
        values = self.view.vocabulary.drugs.values
        seen = [(values[d], d) for d in np.flatnonzero(~self.judgeable).tolist()]
        named = ((text, self.view.drug_name(drug)) for text, drug in sorted(seen)[:limit])
        return [text if name == text else f"{text} {name}" for text, name in named]

    def _parse_names(
        self, n: int
    ) -> tuple[list[GenericName], list[tuple[GenericName, ...]], list[bool]]:
        """Parse the names of all rows; the neutral row at the end has none.

        Returns the likeliest name of each row, all its readings, and whether the registry itself
        states a generic name in Chinese.
        """
        table = self.view.registry.table("drugs")
        if table is None:
            return [NAMELESS], [()], [False]

        def texts(name: str) -> list[str | None]:
            return table.column(name).to_pylist() if name in table.column_names else [None] * n

        names: list[GenericName] = []
        readings: list[tuple[GenericName, ...]] = []
        stated: list[bool] = []
        for generic, name, form in zip(
            texts("generic_name"), texts("name"), texts("form"), strict=True
        ):
            stated.append(is_chinese(generic or ""))
            found = parse_product_name(generic or name or "", form or "")
            if not found and generic and name:
                found = parse_product_name(name, form or "")
            readings.append(found)
            nameless = GenericName("", False, parse_generic_name("", form or "").route)
            names.append(found[0] if found else nameless)
        return [*names, NAMELESS], [*readings, ()], [*stated, False]

    def _index_readings(self) -> None:
        """Index all readings of all rows by their ingredient, and compounds by their ingredients."""
        listed = {parse_generic_name(name) for rule in self._rules for name in rule.names}
        bases = frozenset(name.base for name in listed) | PARTNERS
        # A listed compound (麦角胺咖啡因) is no ingredient to cut others by.
        self._known = frozenset(
            {n.base for n in listed if len(ingredients(n, bases - {n.base})) < 2} | PARTNERS
        )
        self._flat = [reading for found in self._readings for reading in found]
        self._owner = np.repeat(
            np.arange(len(self._readings)), [len(found) for found in self._readings]
        )
        self._by_base: dict[str, list[int]] = defaultdict(list)
        self._by_ingredients: dict[frozenset[str], list[int]] = defaultdict(list)
        for number, reading in enumerate(self._flat):
            self._by_base[reading.base].append(number)
            several = ingredients(reading, self._known)
            if len(several) > 1:
                self._by_ingredients[several].append(number)
        said = np.array([reading.compound for reading in self._flat], np.bool_)
        self._reading_compound: Bools = said | self._flag("compound")[self._owner]

    def _classified(self, stated: list[bool]) -> Bools:
        """Rows of which the lists can say something (see the module's definition)."""
        matched = np.logical_or.reduce(
            [*self._text_matches.values(), np.zeros(len(self._names), np.bool_)]
        )
        listed = {name for rule in self._rules for name in (rule.list, *rule.classes)}
        matched |= np.logical_or.reduce([self._flag(name) for name in sorted(listed)] or [matched])
        texts = {text for rule in self._rules for text in rule.contains} | self._known - PARTNERS
        parts = sorted(text for text in texts if len(text) > 1)
        named = [
            is_stated or (p.formed and not any(part in p.base and part != p.base for part in parts))
            for p, is_stated in zip(self._names, stated, strict=True)
        ]
        classified: Bools = matched | np.array(named, np.bool_)
        return classified

    def _flag(self, name: str) -> Bools:
        """Rows that the registry itself puts in a class."""
        bit = self._bits.get(name)
        if bit is None:
            return np.zeros(len(self._masks), np.bool_)
        return np.asarray((self._masks >> np.uint64(bit)) & np.uint64(1), np.bool_)

    def _route(self, route: str) -> Bools:
        return np.array([p.route == route for p in self._names], np.bool_)

    def _by_text(self, rule: Rule) -> Bools:
        """Rows whose name the rule lists, composition included; classes are not asked here."""
        m = len(self._flat)
        listed, exact = np.zeros(m, np.bool_), np.zeros(m, np.bool_)
        for name in rule.names:
            wanted = parse_generic_name(name)
            several = ingredients(wanted, self._known)
            found = list(self._by_base.get(wanted.base, ()))
            found += self._by_ingredients.get(several, ()) if len(several) > 1 else ()
            for number in found:
                if name.startswith("复方") and len(several) < 2:
                    exact[number] |= bool(self._reading_compound[number])
                elif rule.composition == "compound" or len(several) > 1:
                    exact[number] = True  # the name is that of a compound product (消咳宁)
                else:
                    listed[number] = True
        for text in rule.contains:
            for base, numbers in self._by_base.items():
                if text in base:
                    listed[numbers] = True
        rows = np.zeros(len(self._names), np.bool_)
        rows[self._owner[exact | (listed & self._composition(rule))]] = True
        return rows

    def _composition(self, rule: Rule) -> Bools:
        """Readings of the composition a rule asks for."""
        if rule.composition == "single":
            return ~self._reading_compound
        if rule.composition == "compound":
            # What holds a listed text and more than that text is a compound, marked or not.
            more = [
                any(text in p.base and text != p.base for text in rule.contains)
                and p.base not in _SINGLE_WITH_PREFIX
                for p in self._flat
            ]
            found: Bools = self._reading_compound | np.array(more, np.bool_)
            return found
        return np.ones(len(self._flat), np.bool_)

    def _fits(self, rule: Rule, classes: dict[str, Bools]) -> Bools:
        """Rows a rule takes, given the classes of that day."""
        n = len(self._names)
        known = np.ones(n, np.bool_)
        known[-1] = False
        if rule.names or rule.contains or rule.classes:
            chosen = self._text_matches[rule.id].copy()
            for name in rule.classes:
                chosen |= classes.get(name, np.zeros(n, np.bool_))
        elif rule.composition == "any":
            chosen = known.copy()
        else:
            chosen = known & (self._compound == (rule.composition == "compound"))
        if rule.routes:
            chosen &= np.logical_or.reduce([self._routes[route] for route in rule.routes])
        for route in rule.except_routes:
            chosen &= ~self._routes[route]
        for name in rule.except_classes:
            chosen &= ~classes.get(name, np.zeros(n, np.bool_))
        bases = {parse_generic_name(name).base for name in rule.except_names}
        if bases or rule.except_contains:
            excepted = [
                p.base in bases or any(text in p.base for text in rule.except_contains)
                for p in self._names
            ]
            chosen &= ~np.array(excepted, np.bool_)
        return chosen & known

    def _segment(self, day: int) -> _Segment:
        number = self.policy.segment(day)
        found = self._segments.get(number)
        if found is None:
            found = self._segments[number] = self._build(day)
        return found

    def _build(self, day: int) -> _Segment:
        classes = {name: self._flag(name) for name in self._bits}
        class_rules = [rule for rule in self._rules if rule.list != ONLINE_BAN]
        # Rules that ask for classes come after those that define them by name.
        for rule in sorted(class_rules, key=lambda r: (bool(r.classes or r.except_classes), r.id)):
            rows = self._fits(rule, classes)
            held = classes.get(rule.list, np.zeros(len(self._names), np.bool_))
            if rule.holds(day):
                classes[rule.list] = held | rows
            else:  # a dated rule overrides the registry, which knows only the present
                in_force = [r for r in class_rules if r.list == rule.list and r.holds(day)]
                others = [self._fits(r, classes) for r in in_force]
                kept = np.logical_or.reduce([*others, np.zeros(len(self._names), np.bool_)])
                classes[rule.list] = held & ~(rows & ~kept)
        bans = [
            (rule, self._fits(rule, classes))
            for rule in self._rules
            if rule.list == ONLINE_BAN and rule.holds(day)
        ]
        banned = np.zeros(len(self._names), np.bool_)
        for _, rows in bans:
            banned |= rows
        return _Segment(classes, banned, bans)


# Ingredients whose name holds that of another: they are not compounds of it.
_SINGLE_WITH_PREFIX = frozenset(
    {"双氢可待因", "伪麻黄碱", "去甲麻黄碱", "甲基麻黄碱", "消旋麻黄碱"}
)
