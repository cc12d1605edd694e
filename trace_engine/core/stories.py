"""What a code was in and when, and which events it therefore shares (``docs/semantics.md``).

Given the own events of some codes and of all that they may have been in, one kernel opens and closes
links and gathers stories. It reads times, bills and parties of events, never the state of custody.
Stories are told level by level: that of a pack, told n links deep, takes those of its cartons told
n - 1 deep.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.packages import LEVELS
from trace_engine.core.records import Integer
from trace_engine.events.batch import DAY, NO_CODE
from trace_engine.events.kinds import KINDS, EventKind, Role

Int64 = npt.NDArray[np.int64]

OPEN_END = np.iinfo(np.int64).max  # of a link that is still open

# What an event does to links
STATES, REPLACES, EMPTIES, UNPACKS, MOVES, ENDS, ACTS, WHOLE_DAY = 1, 2, 4, 8, 16, 32, 64, 128

_ROLE_OF = np.array([k.role for k in sorted(KINDS, key=lambda k: k.kind)], np.int8)
_MOVEMENT = np.isin(
    _ROLE_OF,
    [
        Role.SHIP,
        Role.RECEIVE,
        Role.RETURN_SHIP,
        Role.RETURN_RECEIVE,
        Role.TRANSFER_SHIP,
        Role.TRANSFER_RECEIVE,
        Role.RECALL_SHIP,
        Role.RECALL_RECEIVE,
    ],
)
_END = np.isin(_ROLE_OF, [Role.PERSON_SALE, Role.DESTROY])
_SALE = int(Role.PERSON_SALE)
_DAY = np.int64(DAY)

ACTING = ~np.isin(_ROLE_OF, [Role.NONE, Role.VOID])
"""By kind: whether events of it change the state of a code, and of what is in it."""


class Rows(NamedTuple):
    """Own events of the codes looked at, by ``(time, event_key)``: the row number is that order."""

    time: Int64
    flags: npt.NDArray[np.uint8]  # bits above
    role: npt.NDArray[np.int8]
    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    bill: npt.NDArray[np.uint64]
    code: npt.NDArray[np.int32]  # number of the code
    parent: npt.NDArray[np.int32]  # number of the code stated as parent, -1 none or not looked at
    void: npt.NDArray[np.int32]  # number of the view from which on the event is void


class Stories(NamedTuple):
    """Stories and links of all codes: those of code ``k`` at ``begin[k]`` to ``end[k]``."""

    row: Int64
    begin: Int64
    end: Int64
    link_parent: npt.NDArray[np.int32]
    link_opener: Int64  # row that opened it
    link_since: Int64
    link_until: Int64
    link_begin: Int64
    link_end: Int64


def statements(
    kind: npt.NDArray[np.int8], code: npt.NDArray[np.uint64], parent: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which events state a parent, and which say that a code was replaced."""
    names = (parent != NO_CODE) & (parent != code)
    states = names & (ACTING[kind] | (kind == EventKind.PACK))
    return states, names & (kind == EventKind.CODE_REPLACEMENT)


def flags_of(
    kind: npt.NDArray[np.int8],
    code: npt.NDArray[np.uint64],
    parent: npt.NDArray[np.uint64],
    time: Int64,
) -> npt.NDArray[np.uint8]:
    """Return what each event does to links, as bits."""
    states, replaces = statements(kind, code, parent)
    unpack = kind == EventKind.UNPACK
    flags = np.zeros(len(kind), np.uint8)
    for bit, is_so in (
        (STATES, states),
        (REPLACES, replaces),
        (EMPTIES, unpack & (parent == NO_CODE)),
        (UNPACKS, unpack & (parent != NO_CODE)),
        (MOVES, _MOVEMENT[kind]),
        (ENDS, _END[kind]),
        (ACTS, ACTING[kind]),
        (WHOLE_DAY, time % DAY == 0),
    ):
        flags[is_so] |= np.uint8(bit)
    return flags


def roles_of(kind: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return the role of each event."""
    return _ROLE_OF[kind]


@leaf
def span_end(r: Rows, i: Integer) -> np.int64:
    """Return the last moment of the span of an event."""
    return np.int64(r.time[i]) + (_DAY - 1 if (r.flags[i] & WHOLE_DAY) != 0 else 0)


@leaf
def _emptied(r: Rows, own: Int64, start: Integer, stop: Integer, opener: Integer, view: int) -> int:
    """Return the first of a parent's own events that emptied it after ``opener``, or -1."""
    day = r.time[opener] // _DAY
    dated = (r.flags[opener] & WHOLE_DAY) != 0
    for k in range(start, stop):
        i = own[k]
        if (r.flags[i] & EMPTIES) == 0 or r.void[i] <= view:
            continue
        today = r.time[i] // _DAY
        timed = not dated and (r.flags[i] & WHOLE_DAY) == 0
        if today > day or (today == day and timed and r.time[i] > r.time[opener]):
            return int(i)
    return -1


# Answers of _goes_along; any other is the row with which the parent follows.
_LEFT, _ALONG = -1, -2


@leaf
def _goes_along(r: Rows, story: Int64, start: Integer, stop: Integer, i: Integer) -> Integer:
    """Whether movement ``i`` goes where the parent, whose story is given, goes."""
    day = r.time[i] // _DAY
    bill, receiver = r.bill[i], r.target[i]
    before = np.int64(-1)
    for k in range(start, stop):
        j = story[k]
        today = r.time[j] // _DAY
        if today <= day and bill != 0 and r.bill[j] == bill:
            return _ALONG
        if receiver < 0 or (r.flags[j] & MOVES) == 0:
            continue
        if today < day:
            before = j
        elif today == day and r.target[j] == receiver:
            return _ALONG
        elif today > day:
            if before >= 0 and r.target[before] == receiver:
                return _ALONG
            return j if r.target[j] == receiver else _LEFT
    return _ALONG if before >= 0 and r.target[before] == receiver else _LEFT


@leaf
def _step(flags: Integer) -> int:
    """Place of an event among those of the same code and time."""
    if (flags & ENDS) != 0:
        return 2
    return 0 if (flags & (STATES | REPLACES)) != 0 else 1


@leaf
def _meets(r: Rows, i: Integer, since: Integer, until: Integer) -> bool:
    return bool(span_end(r, i) >= since and r.time[i] <= until)


@kernel
def heights(
    r: Rows, own: Int64, own_begin: Int64, heirs: Int64, heirs_begin: Int64
) -> npt.NDArray[np.int64]:
    """Return how many links up the story of each code can look, at most ``LEVELS``."""
    n = own_begin.shape[0] - 1
    height = np.zeros(n, np.int64)
    for _ in range(LEVELS):
        changed = False
        for k in range(n):
            least = np.int64(0)
            for at in range(own_begin[k], own_begin[k + 1]):
                i = own[at]
                parent = np.int64(r.parent[i])
                if (r.flags[i] & (STATES | REPLACES)) == 0 or parent < 0:
                    continue
                least = max(least, height[parent] + 1)
                if (r.flags[i] & STATES) != 0:
                    for heir in range(heirs_begin[parent], heirs_begin[parent + 1]):
                        least = max(least, height[r.code[heirs[heir]]] + 1)
            least = min(least, np.int64(LEVELS))
            if least > height[k]:
                height[k] = least
                changed = True
        if not changed:
            break
    return height


@kernel
def tell(
    r: Rows,
    own: Int64,
    own_begin: Int64,
    heirs: Int64,
    heirs_begin: Int64,
    height: Int64,
    lends: npt.NDArray[np.bool_],
    wanted: npt.NDArray[np.bool_],
    view: int,
) -> Stories:
    """Return links and stories of the codes wanted, and of those that lend to others.

    ``own[own_begin[k]:own_begin[k + 1]]`` are the rows of code ``k``, ascending; ``heirs`` likewise
    the rows that replaced it. Events whose ``void`` is at most ``view`` count as not having been.
    """
    codes = height.shape[0]
    begin = np.zeros((LEVELS + 1, codes), np.int64)
    end = np.zeros((LEVELS + 1, codes), np.int64)
    link_begin = np.zeros((LEVELS + 1, codes), np.int64)
    link_end = np.zeros((LEVELS + 1, codes), np.int64)
    story = np.empty(4 * own.shape[0] + 1024, np.int64)
    used = np.int64(0)
    room = np.int64(0)
    for i in range(own.shape[0]):
        if (r.flags[i] & (STATES | REPLACES | MOVES)) != 0:
            room += LEVELS
    link_parent = np.empty(room, np.int32)
    link_opener = np.empty(room, np.int64)
    link_since = np.empty(room, np.int64)
    link_until = np.empty(room, np.int64)
    links = np.int64(0)
    stamp = np.full(own.shape[0], np.int64(-1))
    found = np.empty(own.shape[0], np.int64)
    token = np.int64(0)

    for level in range(LEVELS + 1):
        for k in range(codes):
            if level > height[k]:
                begin[level, k], end[level, k] = begin[level - 1, k], end[level - 1, k]
                link_begin[level, k] = link_begin[level - 1, k]
                link_end[level, k] = link_end[level - 1, k]
                continue
            if not (lends[k] or (wanted[k] and level == height[k])):
                continue
            first, last = own_begin[k], own_begin[k + 1]
            token += 1
            count = np.int64(0)
            for at in range(first, last):
                i = own[at]
                if (r.flags[i] & ACTS) != 0 and r.void[i] > view:
                    found[count] = i
                    stamp[i] = token
                    count += 1
            mine = count
            link_begin[level, k] = links
            if level > 0:
                # Open and close links.
                parent, opener = np.int64(-1), np.int64(-1)
                again, follows = np.int64(-1), np.int64(-1)  # left this, but follows that event
                at = first
                while at < last:
                    stop = at + 1
                    while stop < last and r.time[own[stop]] == r.time[own[at]]:
                        stop += 1
                    for step in range(3):
                        for here in range(at, stop):
                            i = own[here]
                            flags = np.int64(r.flags[i])
                            if r.void[i] <= view or _step(flags) != step:
                                continue
                            if follows >= 0 and r.time[follows] < r.time[i]:
                                parent, opener = again, follows
                                link_parent[links] = parent
                                link_opener[links] = opener
                                link_since[links] = r.time[opener]
                                link_until[links] = OPEN_END
                                links += 1
                                follows = np.int64(-1)
                            if opener >= 0 and parent >= 0:
                                e = _emptied(
                                    r, own, own_begin[parent], own_begin[parent + 1], opener, view
                                )
                                if e >= 0 and r.time[e] < r.time[i]:
                                    link_until[links - 1] = span_end(r, e)
                                    parent, opener = np.int64(-1), np.int64(-1)
                            if (flags & REPLACES) != 0 and r.parent[i] >= 0 and opener < 0:
                                old = np.int64(r.parent[i])
                                place = np.int64(-1)
                                for link in range(
                                    link_begin[level - 1, old], link_end[level - 1, old]
                                ):
                                    if _meets(r, i, link_since[link], link_until[link]):
                                        place = np.int64(link_parent[link])
                                if place >= 0 and place != k:
                                    parent, opener = place, i
                                    link_parent[links] = parent
                                    link_opener[links] = i
                                    link_since[links] = r.time[i]
                                    link_until[links] = OPEN_END
                                    links += 1
                            if (flags & STATES) != 0:
                                if opener >= 0 and parent != r.parent[i]:
                                    link_until[links - 1] = span_end(r, i)
                                    parent, opener = np.int64(-1), np.int64(-1)
                                if opener < 0:
                                    parent, opener = np.int64(r.parent[i]), i
                                    link_parent[links] = parent
                                    link_opener[links] = i
                                    link_since[links] = r.time[i]
                                    link_until[links] = OPEN_END
                                    links += 1
                            if (flags & (STATES | ENDS | MOVES)) != 0:
                                follows = np.int64(-1)
                            if opener < 0:
                                continue
                            left = (flags & ENDS) != 0 or (
                                (flags & UNPACKS) != 0 and r.parent[i] == parent
                            )
                            if not left and (flags & MOVES) != 0 and (flags & STATES) == 0:
                                where: Integer = np.int64(_LEFT)
                                if parent >= 0:
                                    where = _goes_along(
                                        r,
                                        story,
                                        begin[level - 1, parent],
                                        end[level - 1, parent],
                                        i,
                                    )
                                left = where != _ALONG
                                if where >= 0:
                                    again, follows = parent, np.int64(where)
                            if left:
                                link_until[links - 1] = span_end(r, i)
                                parent, opener = np.int64(-1), np.int64(-1)
                    at = stop
                if follows >= 0:
                    parent, opener = again, follows
                    link_parent[links] = parent
                    link_opener[links] = opener
                    link_since[links] = r.time[opener]
                    link_until[links] = OPEN_END
                    links += 1
                if opener >= 0 and parent >= 0:
                    e = _emptied(r, own, own_begin[parent], own_begin[parent + 1], opener, view)
                    if e >= 0:
                        link_until[links - 1] = span_end(r, e)
                # Gather what the links lend.
                for link in range(link_begin[level, k], links):
                    parent = np.int64(link_parent[link])
                    if parent < 0:
                        continue
                    since, until = link_since[link], link_until[link]
                    for at in range(begin[level - 1, parent], end[level - 1, parent]):
                        i = story[at]
                        if stamp[i] != token and r.code[i] != k and _meets(r, i, since, until):
                            found[count] = i
                            stamp[i] = token
                            count += 1
                    for heir in range(heirs_begin[parent], heirs_begin[parent + 1]):
                        h = heirs[heir]
                        if r.void[h] <= view or not _meets(r, h, since, until):
                            continue
                        new = r.code[h]
                        for at in range(begin[level - 1, new], end[level - 1, new]):
                            i = story[at]
                            if (
                                stamp[i] != token
                                and r.code[i] != k
                                and _meets(r, i, since, until)
                                and span_end(r, i) >= r.time[h]
                            ):
                                found[count] = i
                                stamp[i] = token
                                count += 1
            link_end[level, k] = links
            # A sale that was told of the code itself is not lent to it as well.
            kept = mine
            for at in range(mine, count):
                i = found[at]
                told = False
                if r.role[i] == _SALE:
                    for other in range(mine):
                        j = found[other]
                        if (
                            r.role[j] == _SALE
                            and r.source[j] == r.source[i]
                            and r.time[j] // _DAY == r.time[i] // _DAY
                        ):
                            told = True
                if not told:
                    found[kept] = i
                    kept += 1
            if kept > mine:
                if kept > 48:
                    found[:kept].sort()
                else:
                    for at in range(mine, kept):
                        i = found[at]
                        back = at
                        while back > 0 and found[back - 1] > i:
                            found[back] = found[back - 1]
                            back -= 1
                        found[back] = i
            if used + kept > story.shape[0]:
                grown = np.empty(2 * (used + kept), np.int64)
                grown[:used] = story[:used]
                story = grown
            story[used : used + kept] = found[:kept]
            begin[level, k] = used
            used += kept
            end[level, k] = used
    return Stories(
        story,
        begin[LEVELS].copy(),
        end[LEVELS].copy(),
        link_parent[:links],
        link_opener[:links],
        link_since[:links],
        link_until[:links],
        link_begin[LEVELS].copy(),
        link_end[LEVELS].copy(),
    )
