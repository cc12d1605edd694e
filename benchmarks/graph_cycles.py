"""Cycles, fans and scatter-gather patterns of a temporal graph, beside IBM's snapml where installed.

The graph is made anew: communities, replies, hubs and planted rings, a million edges of a hundred
thousand vertices over ten days. Three independent enumerators agree on how many cycles it holds
(``ORACLE``: one day's window, strictly increasing times, no vertex twice); ours must give exactly
these, each with its edges.

The peer is the Graph Feature Preprocessor of ``snapml`` (any version; nothing here needs it). It
keeps a full window and then takes the stream in batches for some seconds. Its counts depend on the
batch size, because edges of one batch see each other, so answers are compared edge by edge (a batch
of one) and speed in batches of 2048, which it likes best. It tells how many patterns an edge is
in, ours also which edges they are.

Last comes the supply graph of a simulated market: one edge for each bill and drug, cycles of at
most five enterprises of one drug within 30 days.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

DAY = 86_400
EDGES, VERTICES, DAYS = 1_000_000, 100_000, 10
SEED = 5
ORACLE = {
    2: 82_687, 3: 3_103, 4: 1_605, 5: 1_458, 6: 1_404, 7: 1_029, 8: 778, 9: 315, 10: 197, 11: 107,
    12: 46, 13: 19, 14: 5, 15: 1, 16: 2,
}  # fmt: skip
EDGES_A_SECOND, TIMES_THE_PEER = 130_000, 10.0
SCATTER_WINDOW = 6 * 3600
BATCH = 2048
COMMUNITY, HUB_EXPONENT, INSIDE, REPLIES = 30, -0.6, 0.4, 0.08
MARKET_WINDOW, MARKET_LONGEST = 30 * DAY, 5


class Graph(NamedTuple):
    """Edges in order of time, each column of shape ``(m,)``; times in seconds."""

    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    time: Ints

    def __len__(self) -> int:
        return len(self.time)


def make_graph(edges: int = EDGES, vertices: int = VERTICES, days: float = DAYS) -> Graph:
    """Return the graph: the same arguments give the same edges for ever.

    The draws from the generator, their kinds, sizes and order make the graph; the oracle's counts
    hold for the default sizes only.
    """
    draw = np.random.default_rng(SEED)
    duration = int(days * DAY)
    # Every vertex is a member of one community; ``members`` lists them community by community.
    communities = np.arange(vertices // COMMUNITY)
    community_at = np.sort(draw.integers(0, vertices // COMMUNITY, vertices))
    members = draw.permutation(vertices)
    begins = np.searchsorted(community_at, communities)
    ends = np.searchsorted(community_at, communities, side="right")
    # Some vertices trade far more than others, as givers and as receivers.
    weight = np.arange(1, vertices + 1) ** HUB_EXPONENT
    share = np.cumsum(weight / weight.sum())
    by_weight = draw.permutation(vertices)
    rings = edges // 2000
    ring_sizes = draw.integers(3, 9, rings)
    plain = edges - int(ring_sizes.sum())

    def weighted() -> Ints:
        place = np.searchsorted(share, draw.random(plain))
        return by_weight[np.minimum(place, vertices - 1)]

    source, target = weighted(), weighted()
    stays_inside = draw.random(plain) < INSIDE
    community = community_at[np.argsort(members)[source]]
    size = ends[community] - begins[community]
    neighbour = begins[community] + (draw.random(plain) * size).astype(int)
    target = np.where(stays_inside, members[np.minimum(neighbour, vertices - 1)], target)
    moment = draw.integers(0, duration, plain)
    # A reply goes back along some other edge, up to a day after it.
    replies = draw.random(plain) < REPLIES
    answered = draw.integers(0, plain, plain)
    reply_moment = np.minimum(moment[answered] + draw.integers(60, DAY, plain), duration - 1)
    columns = [
        (
            np.where(replies, target[answered], source),
            np.where(replies, source[answered], target),
            np.where(replies, reply_moment, moment),
        )
    ]
    for length in ring_sizes:
        ring = draw.choice(vertices, length, replace=False)
        times = np.sort(draw.integers(0, 80_000, length)) + draw.integers(0, duration - DAY)
        columns.append((ring, np.roll(ring, -1), times))
    source, target, moment = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    target = np.where(source == target, (target + 1) % vertices, target)
    order = np.argsort(moment, kind="stable")
    return Graph(source[order].astype(np.int32), target[order].astype(np.int32), moment[order])


def timed(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """Return what ``work`` returns, and the median of its seconds over ``repeat`` runs."""
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - begin)
    return answer, sorted(seconds)[len(seconds) // 2]


def counts_by_length(counts: Ints) -> dict[int, int]:
    """Return the lengths that occur, with how many there are of each."""
    return {length: int(count) for length, count in enumerate(counts.tolist()) if count}


# ---------------------------------------------------------------- the peer


@dataclass(frozen=True, slots=True)
class PeerQuestion:
    """A pattern as the peer names it, its window in seconds, and its bins (sizes counted)."""

    pattern: str
    window: int
    bins: tuple[int, ...] = tuple(range(2, 31))


class Peer:
    """The Graph Feature Preprocessor, one thread, asked for one pattern at a time."""

    def __init__(self) -> None:
        from snapml import GraphFeaturePreprocessor

        self._make = GraphFeaturePreprocessor

    def _ask(self, question: PeerQuestion) -> Any:
        peer = self._make()
        settings = peer.get_params()
        for pattern in ("fan", "degree", "scatter-gather", "temp-cycle", "lc-cycle"):
            settings[pattern] = pattern == question.pattern
        settings |= {"vertex_stats": False, "num_threads": 1, "time_window": question.window}
        settings[f"{question.pattern}_tw"] = question.window
        settings[f"{question.pattern}_bins"] = list(question.bins)
        peer.set_params(settings)
        return peer

    def speed(self, graph: Graph, question: PeerQuestion, seconds: float) -> float:
        """Return edges per second with a full window, measured over about ``seconds``."""
        rows = _peer_rows(graph)
        peer = self._ask(question)
        full = int(np.searchsorted(graph.time, graph.time[0] + question.window))
        full = min(full, len(graph) // 2)
        for i in range(0, full, BATCH):
            peer.partial_fit(rows[i : min(i + BATCH, full)])
        done, begin = full, time.perf_counter()
        while done < len(rows) and time.perf_counter() - begin < seconds:
            peer.transform(rows[done : done + BATCH])
            done = min(done + BATCH, len(rows))
        return (done - full) / (time.perf_counter() - begin)

    def answers(self, graph: Graph, question: PeerQuestion) -> Ints:
        """Return the histogram of each edge as it arrives alone, shape ``(m, bins)``."""
        rows = _peer_rows(graph)
        peer = self._ask(question)
        found = [peer.transform(rows[i : i + 1])[:, 4:] for i in range(len(rows))]
        return np.concatenate(found).astype(np.int64)


def _peer_rows(graph: Graph) -> npt.NDArray[np.float64]:
    columns = [np.arange(len(graph)), graph.source, graph.target, graph.time]
    return np.ascontiguousarray(np.column_stack(columns).astype(np.float64))


def find_peer() -> Peer | None:
    """Return the peer, or None where it is not installed."""
    try:
        return Peer()
    except ImportError:
        return None


def _histogram(edge: Ints, size: Ints, edges: int, bins: int) -> Ints:
    """Return how many patterns of each size from 2 on each edge has; the last bin is open."""
    table = np.zeros((edges, bins), np.int64)
    np.add.at(table, (edge, np.minimum(size - 2, bins - 1)), 1)
    return table


def our_answers(graph: Graph, question: PeerQuestion) -> Ints:
    """Return in the peer's form what we say of each edge as it arrives, shape ``(m, bins)``."""
    from trace_engine.graph import fans, scatter_gather, temporal_cycles

    m, bins = len(graph), len(question.bins)
    if question.pattern == "temp-cycle":
        cycles = temporal_cycles(*graph, question.window, longest=None)
        last = cycles.edges[cycles.offsets[1:] - 1]
        return _histogram(last, cycles.lengths, m, bins)
    if question.pattern == "scatter-gather":
        found = scatter_gather(*graph, question.window, in_order=False, listed=False)
        return _histogram(found.last, found.size.astype(np.int64), m, bins)
    # The peer's window of fans leaves out the edge exactly a window before.
    both = fans(*graph, question.window - 1)
    table = np.zeros((m, 2 * bins), np.int64)
    for base, size in ((0, both.fan_in), (bins, both.fan_out)):
        some = np.flatnonzero(size >= 2)
        table[some, base + np.minimum(size[some] - 2, bins - 1)] = 1
    return table


QUESTIONS = {
    "temporal cycles": PeerQuestion("temp-cycle", DAY),
    "fan-in and fan-out": PeerQuestion("fan", DAY),
    "scatter-gather": PeerQuestion("scatter-gather", SCATTER_WINDOW),
}


def compare_answers(peer: Peer, graph: Graph) -> list[str]:
    """Return how our answers compare with the peer's, question by question, edge by edge."""
    lines = []
    for name, question in QUESTIONS.items():
        ours, theirs = our_answers(graph, question), peer.answers(graph, question)
        same = int(np.count_nonzero(np.all(ours == theirs, axis=1)))
        lines.append(
            f"  {name}: {same:,} of {len(graph):,} edges alike "
            f"(patterns: ours {int(ours.sum()):,}, peer's {int(theirs.sum()):,})"
        )
    return lines


# ---------------------------------------------------------------- the supply graph of a market


def market_graph(events: int, seed: int, folder: Path) -> tuple[Graph, npt.NDArray[np.float64]]:
    """Return the trade of a simulated market as one edge for each bill and drug, with its packs.

    Vertices are pairs of enterprise and drug, so that every cycle is of one drug.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from trace_engine.simulate import simulate

    simulate(events, seed, folder)
    names = ["event_time", "event_type", "from_id", "to_id", "drug_id", "bill_code", "quantity"]
    table = ds.dataset(folder / "events").to_table(columns=[*names, "code"])
    # Few rows name their drug: it is the first seven digits of a national code, else the GTIN.
    code = table["code"]
    national = pc.equal(pc.utf8_length(code), 20)
    in_code = pc.if_else(
        national, pc.utf8_slice_codeunits(code, 0, 7), pc.utf8_slice_codeunits(code, 0, 16)
    )
    drug = pc.coalesce(table["drug_id"], in_code)
    table = table.set_column(names.index("drug_id"), "drug_id", drug)
    trade = pc.is_in(
        table["event_type"],
        value_set=_strings("sale_shipment", "production_shipment", "supply_shipment"),
    )
    for name in ("from_id", "to_id", "drug_id"):
        trade = pc.and_(trade, pc.is_valid(table[name]))
    table = table.filter(trade)
    bills = table.group_by(["from_id", "to_id", "drug_id", "bill_code"]).aggregate(
        [("event_time", "max"), ("quantity", "sum")]
    )
    ends = [
        pc.binary_join_element_wise(bills[side], bills["drug_id"], "|").combine_chunks()
        for side in ("from_id", "to_id")
    ]
    _, number = np.unique(
        np.concatenate([end.to_numpy(zero_copy_only=False) for end in ends]).astype(str),
        return_inverse=True,
    )
    source, target = number.astype(np.int32).reshape(2, -1)
    seconds = bills["event_time_max"].to_numpy().astype("datetime64[s]").astype(np.int64)
    order = np.argsort(seconds, kind="stable")
    packs = bills["quantity_sum"].to_numpy().astype(np.float64)
    return Graph(source[order], target[order], seconds[order]), packs[order]


def _strings(*values: str) -> Any:
    import pyarrow as pa

    return pa.array(values)


# ---------------------------------------------------------------- the run


def verdict(good: bool) -> str:
    """Return the word beside an aim."""
    return "met" if good else "MISSED"


def report_cycles(graph: Graph, repeat: int, exact: bool) -> tuple[dict[str, float], bool]:
    """Print cycles by length and speed, up to five and unbounded; return speeds, and if all fits."""
    from trace_engine.graph import temporal_cycles

    speeds, good = {}, True
    for name, longest in (("length <= 5", 5), ("any length", None)):
        cycles, seconds = timed(
            lambda longest=longest: temporal_cycles(*graph, DAY, longest=longest), repeat
        )
        speeds[name] = len(graph) / seconds
        counts = counts_by_length(cycles.counts)
        print(f"{name}: {sum(counts.values()):,} cycles with their edges, {seconds:.2f} s")
        print(f"  {speeds[name]:,.0f} edges/s")
        print("  " + " ".join(f"{length}:{count}" for length, count in counts.items()))
        if exact:
            due = {k: n for k, n in ORACLE.items() if longest is None or k <= longest}
            print(f"  the oracle's counts: {verdict(counts == due)}")
            good &= counts == due
    aim = speeds["length <= 5"] >= EDGES_A_SECOND
    print(f"aim of {EDGES_A_SECOND:,} edges/s for length <= 5: {verdict(aim)}")
    return speeds, good and aim


def report_patterns(graph: Graph, repeat: int) -> dict[str, float]:
    """Print and return edges per second of fans and of scatter-gather patterns."""
    from trace_engine.graph import fans, scatter_gather

    both, seconds = timed(lambda: fans(*graph, DAY), repeat)
    speeds = {"fan-in and fan-out": len(graph) / seconds}
    print(f"fans within a day: {speeds['fan-in and fan-out']:,.0f} edges/s,", end=" ")
    print(f"largest fan-in {int(both.fan_in.max())}, fan-out {int(both.fan_out.max())}")
    for name, in_order in (("scatter-gather", False), ("scatter-gather in order of time", True)):
        found, seconds = timed(
            lambda in_order=in_order: scatter_gather(*graph, SCATTER_WINDOW, in_order=in_order),
            repeat,
        )
        speeds[name] = len(graph) / seconds
        print(f"{name} within 6 h: {speeds[name]:,.0f} edges/s, {len(found):,} with their edges")
    return speeds


def report_peer(graph: Graph, speeds: dict[str, float], seconds: float, compared: int) -> bool:
    """Run the peer on the same graph and print the ratios; return whether all aims were met."""
    peer = find_peer()
    if peer is None:
        print("peer: snapml is not installed, so nothing is compared")
        return True
    print(f"peer (snapml, full window, batches of {BATCH}, {seconds:g} s each), edges/s:")
    good = True
    for name, question in QUESTIONS.items():
        theirs = peer.speed(graph, question, seconds)
        ours = speeds["any length" if name == "temporal cycles" else name]
        fits = ours >= TIMES_THE_PEER * theirs
        good &= fits
        print(
            f"  {name}: peer {theirs:,.0f}, ours {ours:,.0f} = {ours / theirs:.1f} x "
            f"(aim {TIMES_THE_PEER:g} x {verdict(fits)})"
        )
    some = Graph(*(column[:compared] for column in graph))
    print(f"answers on the first {len(some):,} edges, one by one:")
    print("\n".join(compare_answers(peer, some)))
    return good


def report_market(events: int, seed: int, repeat: int) -> None:
    """Print speed and finds on the supply graph of a simulated market, drug by drug."""
    from trace_engine.graph import temporal_cycles

    with tempfile.TemporaryDirectory() as folder:
        graph, packs = market_graph(events, seed, Path(folder) / "market")
    for ratio in (0.0, 0.3):
        cycles, seconds = timed(
            lambda ratio=ratio: temporal_cycles(
                *graph, MARKET_WINDOW, longest=MARKET_LONGEST, amount=packs, least_ratio=ratio
            ),
            repeat,
        )
        print(
            f"supply graph of a market of {events:,} events by drug: {len(graph):,} bills, "
            f"{len(graph) / seconds:,.0f} edges/s, cycles of quantity ratio >= {ratio:g}: "
            f"{counts_by_length(cycles.counts)}"
        )


def main() -> int:
    """Run everything and print it; 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--edges", type=int, default=EDGES)
    parser.add_argument("--vertices", type=int, default=VERTICES)
    parser.add_argument("--days", type=float, default=DAYS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peer-seconds", type=float, default=10.0)
    parser.add_argument("--compared", type=int, default=20_000, help="edges compared one by one")
    parser.add_argument("--market-events", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1, help="of the market")
    arguments = parser.parse_args()
    sizes = (arguments.edges, arguments.vertices, arguments.days)
    graph = make_graph(*sizes)
    small = Graph(*(column[: min(2000, len(graph))] for column in graph))
    for question in QUESTIONS.values():  # compiles
        our_answers(small, question)
    print(f"graph: {len(graph):,} edges, {arguments.vertices:,} vertices, {arguments.days:g} days")
    exact = sizes == (EDGES, VERTICES, DAYS)
    speeds, good = report_cycles(graph, arguments.repeat, exact)
    speeds |= report_patterns(graph, arguments.repeat)
    good &= report_peer(graph, speeds, arguments.peer_seconds, arguments.compared)
    report_market(arguments.market_events, arguments.seed, arguments.repeat)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
