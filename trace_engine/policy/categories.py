"""Which drugs are on which list on which day: online ban, schedules, restricted classes.

A drug's class comes from the registry (``drugs.classes``) and from the policy's rules, which match
generic names. Where a rule dates a class (dextromethorphan is class II from 2024-07-01), the rule
decides: before that day the drug is not in the class, though today's registry says it is.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.policy import Policy, Rule
from trace_engine.policy.names import GenericName, parse_generic_name
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
    does not know, or knows neither name nor class of, are on no list; :attr:`unmatched` counts
    them, so that silence is not taken for safety.
    """

    def __init__(self, policy: Policy, view: RegistryView) -> None:
        self.policy = policy
        self.view = view
        self._rules = policy.rules()
        table = view.registry.table("drugs")
        n = 0 if table is None else int(table.num_rows)
        self._bits = dict(view.class_bits)
        self._masks = view.row_classes()
        self._names = self._parse_names(n)
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
        self._by_base: dict[str, list[int]] = defaultdict(list)
        for row, parsed in enumerate(self._names):
            if parsed.base:
                self._by_base[parsed.base].append(row)
        named = np.array([bool(p.base) for p in self._names], np.bool_)
        self._judgeable_rows: Bools = named | (self._masks != 0)
        self._text_matches: dict[str, Bools] = {r.id: self._by_text(r) for r in self._rules}
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

    @property
    def judgeable(self) -> Bools:
        """By drug id: the registry has its generic name or a class, so lists can be applied."""
        judgeable: Bools = self._judgeable_rows[self.view.drug_row]
        return judgeable

    @property
    def unmatched(self) -> int:
        """Number of drugs seen that no list could be applied to."""
        return int(np.count_nonzero(~self.judgeable))

    def _parse_names(self, n: int) -> list[GenericName]:
        """Parse the names of all rows; the neutral row at the end has an empty one."""
        nothing = GenericName("", False, None)
        table = self.view.registry.table("drugs")
        if table is None:
            return [nothing]

        def texts(name: str) -> list[str | None]:
            return table.column(name).to_pylist() if name in table.column_names else [None] * n

        rows = zip(texts("generic_name"), texts("name"), texts("form"), strict=True)
        parsed = [
            parse_generic_name(generic or name or "", form or "")
            if generic or name
            else GenericName("", False, parse_generic_name("", form or "").route)
            for generic, name, form in rows
        ]
        return [*parsed, nothing]

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
        n = len(self._names)
        listed, exact = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        for name in rule.names:
            wanted = parse_generic_name(name)
            for row in self._by_base.get(wanted.base, ()):
                if name.startswith("复方"):
                    exact[row] |= bool(self._compound[row])
                elif rule.composition == "compound":
                    exact[row] = True  # the name is that of a compound product (消咳宁)
                else:
                    listed[row] = True
        for text in rule.contains:
            for base, rows in self._by_base.items():
                if text in base:
                    listed[rows] = True
        found: Bools = exact | (listed & self._composition(rule))
        return found

    def _composition(self, rule: Rule) -> Bools:
        if rule.composition == "single":
            return ~self._compound
        if rule.composition == "compound":
            # What holds a listed text and more than that text is a compound, marked or not.
            more = [
                any(text in p.base and text != p.base for text in rule.contains)
                and p.base not in _SINGLE_WITH_PREFIX
                for p in self._names
            ]
            found: Bools = self._compound | np.array(more, np.bool_)
            return found
        return np.ones(len(self._names), np.bool_)

    def _fits(self, rule: Rule, classes: dict[str, Bools]) -> Bools:
        """Rows a rule takes, given the classes of that day."""
        n = len(self._names)
        known = np.ones(n, np.bool_)
        known[-1] = False
        if rule.names or rule.contains or rule.classes:
            chosen = self._text_matches[rule.id].copy()
            for name in rule.classes:
                chosen |= classes.get(name, np.zeros(n, np.bool_))
        else:
            chosen = known & self._composition(rule)
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
