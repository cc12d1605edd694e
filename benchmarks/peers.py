"""The same questions, put to DuckDB, to Polars, to trace-engine, and a bare read of the columns.

``python peers.py PEER DATA ANSWERS`` runs one of them in this process, writes its answers as
``ANSWERS/<question>.parquet`` and prints one line of JSON: seconds, peak memory and more.

Questions (all over one dump, row-level answers):

* ``hops``: codes with 4 or more changes of owner, and how many.
* ``crossings``: codes whose owner changed from province to province twice or more, and how often.
* ``inversions``: codes sold to a person for under 97 % of what that seller paid for that code.
* ``duplicates``: codes sold to persons more than once, and how often.
* ``quotas``: buyers of more than 4 packs of ephedrine compounds in a sliding 7 days, and days.
* ``sellers``: packs sold to persons by each seller, and their value in fen.

Owners come from walking the events of a code in order of time, so each peer needs one pass with
a look at the row before. The peers get the form of each question that was found fastest for them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

THREADS = 2
QUESTIONS = ("hops", "crossings", "inversions", "duplicates", "quotas", "sellers")
HOPS, CROSSINGS, TOLERANCE, QUOTA = 4, 2, 0.97, 4
Answers = dict[str, Any]  # question -> pyarrow table


def peak_bytes() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not say how much memory was used at most (VmHWM)")


class Meter:
    """Wall-clock and processor seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Return wall-clock seconds so far."""
        return time.perf_counter() - self._wall

    def report(self) -> dict[str, Any]:
        """Return both, as the report names them."""
        return {"seconds": self.seconds(), "cpu": time.process_time() - self._processor}


def bare_read(data: Path) -> tuple[Answers, dict[str, Any]]:
    """Read the columns the engine reads, as its reader asks for them, and do nothing with them.

    Row groups are shared by two threads; labels come as dictionaries.
    """
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.parquet as pq

    from trace_engine.events.schema import BY_NAME, LABELS
    from trace_engine.readers.units import BATCH_ROWS

    path = data / "events.parquet"
    with pq.ParquetFile(path) as file:
        names, groups = file.schema_arrow.names, file.num_row_groups
    columns = [name for name in names if name in BY_NAME]
    labels = [name for name in LABELS if name in names]

    def read(group: int) -> int:
        with pq.ParquetFile(path, read_dictionary=labels, memory_map=True) as file:
            batches = file.iter_batches(
                BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False
            )
            return sum(batch.num_rows for batch in batches)

    meter = Meter()
    with ThreadPoolExecutor(THREADS) as pool:
        rows = sum(pool.map(read, range(groups)))
    return {}, {**meter.report(), "rows": rows}


# Codes are 20 digits beginning with 8: as 64-bit numbers they sort faster than as text.
CHAIN_SQL = f"""
SELECT '8' || lpad(CAST(number AS VARCHAR), 19, '0') AS code,
       count(*) FILTER (NOT sale AND owner <> owner_before) AS hops,
       count(*) FILTER (NOT sale AND owner <> owner_before AND crosses) AS crossings,
       count(*) FILTER (sale) AS sales,
       count(*) FILTER (sale AND from_id = actor_before
                        AND unit_price < price_before * {TOLERANCE}) AS inversions
FROM (
    SELECT number, sale, owner, from_id, crosses, unit_price,
           coalesce(lag(owner) OVER history, from_id) AS owner_before,
           lag(actor_id) OVER history AS actor_before,
           lag(unit_price) OVER history AS price_before
    FROM (
        SELECT CAST(substr(code, 2) AS UBIGINT) AS number, event_time,
               event_type = 'retail_sale' AS sale, actor_id, from_id, unit_price,
               substr(from_region, 1, 2) <> substr(to_region, 1, 2) AS crosses,
               CASE WHEN event_type = 'retail_sale' THEN from_id
                    ELSE coalesce(to_id, actor_id) END AS owner
        FROM events
    )
    WINDOW history AS (PARTITION BY number ORDER BY event_time)
)
GROUP BY number
HAVING hops >= {HOPS} OR crossings >= {CROSSINGS} OR sales >= 2 OR inversions > 0
"""

QUOTA_SQL = f"""
SELECT DISTINCT buyer_id, CAST(event_time AS DATE) AS day
FROM (
    SELECT buyer_id, event_time, sum(quantity) OVER (
               PARTITION BY buyer_id ORDER BY event_time
               RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND CURRENT ROW) AS packs
    FROM events
    WHERE event_type = 'retail_sale' AND buyer_id IS NOT NULL
      AND drug_id IN (SELECT drug_id FROM drugs WHERE classes = 'ephedrine_compound')
)
WHERE packs > {QUOTA}
"""

SELLERS_SQL = """
SELECT from_id AS enterprise_id, CAST(sum(quantity) AS BIGINT) AS packs,
       CAST(sum(CAST(round(unit_price * 100) AS BIGINT) * quantity) AS BIGINT) AS fen
FROM events WHERE event_type = 'retail_sale' GROUP BY from_id
"""


def _split_chain(chain: Any) -> Answers:
    """Return the four answers that one pass over the codes gave (``chain`` is an Arrow table)."""
    import pyarrow.compute as pc

    def chosen(name: str, least: int) -> Any:
        return chain.filter(pc.greater_equal(chain[name], least)).select(["code", name])

    return {
        "hops": chosen("hops", HOPS),
        "crossings": chosen("crossings", CROSSINGS),
        "inversions": chosen("inversions", 1).select(["code"]),
        "duplicates": chosen("sales", 2),
    }


def duckdb(data: Path) -> tuple[Answers, dict[str, Any]]:
    """Answer the questions in SQL."""
    import duckdb as engine

    meter = Meter()
    connection = engine.connect()
    connection.execute(f"SET threads = {THREADS}; SET preserve_insertion_order = false")
    for view, path in (("events", "events.parquet"), ("drugs", "registry/drugs.parquet")):
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM '{data / path}'")
    chain = connection.sql(CHAIN_SQL).to_arrow_table()
    chained = meter.seconds()
    answers = _split_chain(chain)
    answers["quotas"] = connection.sql(QUOTA_SQL).to_arrow_table()
    answers["sellers"] = connection.sql(SELLERS_SQL).to_arrow_table()
    report = meter.report()
    return answers, {
        **report,
        "stages": {"codes": chained, "rest": report["seconds"] - chained},
        "version": engine.__version__,
    }


def polars(
    data: Path, engine: Literal["in-memory", "streaming"] = "in-memory"
) -> tuple[Answers, dict[str, Any]]:
    """Answer the questions with data frames: sort, then compare each row with the one before."""
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    import polars as pl

    meter = Meter()
    events = pl.scan_parquet(data / "events.parquet")
    sale = pl.col("event_type") == "retail_sale"
    same = pl.col("code") == pl.col("code").shift(1)
    owner = pl.when(pl.col("sale")).then("from_id").otherwise(pl.coalesce("to_id", "actor_id"))
    before = pl.when(same).then(pl.col("owner").shift(1)).otherwise("from_id")
    hop = ~pl.col("sale") & (pl.col("owner") != before)
    crosses = pl.col("from_region").str.slice(0, 2) != pl.col("to_region").str.slice(0, 2)
    inverted = (
        pl.col("sale")
        & same
        & (pl.col("from_id") == pl.col("actor_id").shift(1))
        & (pl.col("unit_price") < pl.col("unit_price").shift(1) * TOLERANCE)
    )
    number = pl.col("code").str.slice(1).cast(pl.UInt64)
    chain = (
        events.select(
            "event_time",
            "actor_id",
            "from_id",
            "to_id",
            "unit_price",
            code=number,
            sale=sale,
            crosses=crosses,
        )
        .with_columns(owner=owner)
        .sort("code", "event_time")
        .select("code", "sale", hop=hop, crossed=hop & pl.col("crosses"), inverted=inverted)
        .filter(pl.col("sale") | pl.col("hop"))
        .group_by("code")
        .agg(
            hops=pl.col("hop").sum(),
            crossings=pl.col("crossed").sum(),
            sales=pl.col("sale").sum(),
            inversions=pl.col("inverted").sum(),
        )
        .filter(
            (pl.col("hops") >= HOPS)
            | (pl.col("crossings") >= CROSSINGS)
            | (pl.col("sales") >= 2)
            | (pl.col("inversions") > 0)
        )
        .with_columns(code=pl.lit("8") + pl.col("code").cast(pl.String).str.zfill(19))
        .collect(engine=engine)
    )
    chained = meter.seconds()
    drugs = pl.scan_parquet(data / "registry" / "drugs.parquet")
    restricted = drugs.filter(pl.col("classes") == "ephedrine_compound").select("drug_id")
    sales = events.filter(sale)
    quotas = (
        sales.filter(pl.col("buyer_id").is_not_null())
        .select("drug_id", "buyer_id", "event_time", "quantity")
        .join(restricted, on="drug_id", how="semi")
        .sort("event_time")
        .with_columns(
            packs=pl.col("quantity")
            .rolling_sum_by("event_time", window_size="7d", closed="both")
            .over("buyer_id")
        )
        .filter(pl.col("packs") > QUOTA)
        .select("buyer_id", day=pl.col("event_time").dt.date())
        .unique()
    )
    fen = (pl.col("unit_price") * 100).round().cast(pl.Int64) * pl.col("quantity")
    sellers = sales.group_by(enterprise_id=pl.col("from_id")).agg(
        packs=pl.col("quantity").cast(pl.Int64).sum(), fen=fen.sum()
    )
    answers = _split_chain(chain.to_arrow())
    quotas_found, sellers_found = pl.collect_all([quotas, sellers], engine=engine)
    answers["quotas"], answers["sellers"] = quotas_found.to_arrow(), sellers_found.to_arrow()
    report = meter.report()
    return answers, {
        **report,
        "stages": {"codes": chained, "rest": report["seconds"] - chained},
        "version": pl.__version__,
    }


def engine(data: Path) -> tuple[Answers, dict[str, Any]]:
    """Run all detectors over the dump, then pick the answers out of the findings."""
    import numba  # noqa: F401  (its import is start-up, as that of the other peers is)
    import pyarrow.parquet  # noqa: F401

    import trace_engine

    meter = Meter()
    result = trace_engine.score(
        [data / "events.parquet"], registry=data / "registry", threads=THREADS
    )
    report = meter.report()
    return engine_answers(result), {
        **report,
        "stages": dict(result.seconds_by_stage),
        "findings": result.findings.num_rows,
        "live_codes": result.live_codes,
        "state_bytes": result.state_bytes,
        "version": trace_engine.__version__,
    }


def engine_answers(result: Any) -> Answers:
    """Return our findings and exposures in the form of the peers' answers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    findings = result.findings

    def of(detector: str) -> Any:
        return findings.filter(pc.equal(findings["detector"], detector))

    def most_by_code(detector: str, name: str) -> Any:
        """Return each code with the largest value observed, integers."""
        found = of(detector)
        parents = pc.list_parent_indices(found["codes"])
        codes = pa.table(
            {
                "code": pc.list_flatten(found["codes"]),
                name: pc.cast(found["observed"].take(parents), pa.int64()),
            }
        )
        return codes.group_by("code").aggregate([(name, "max")]).rename_columns(["code", name])

    inverted = of("price_inversion")
    quota = of("quota_rolling")
    sellers = result.exposure.filter(pc.greater(result.exposure["packs_sold"], 0))
    return {
        "hops": most_by_code("repeated_transfer", "hops"),
        "crossings": most_by_code("cross_region_resale", "crossings"),
        "inversions": pa.table({"code": pc.unique(pc.list_flatten(inverted["codes"]))}),
        "duplicates": most_by_code("duplicate_sale", "sales"),
        "quotas": pa.table({"buyer_id": pc.unique(quota["buyer_id"])}),
        "sellers": pa.table(
            {"enterprise_id": sellers["enterprise_id"], "packs": sellers["packs_sold"]}
        ),
    }


PEERS: dict[str, Callable[[Path], tuple[Answers, dict[str, Any]]]] = {
    "read": bare_read,
    "engine": engine,
    "duckdb": duckdb,
    "polars": polars,
    "polars-streaming": partial(polars, engine="streaming"),
}


def main() -> int:
    """Run one peer and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("data", type=Path)
    parser.add_argument("answers", type=Path)
    arguments = parser.parse_args()
    answers, report = PEERS[arguments.peer](arguments.data)
    report["peak_bytes"] = peak_bytes()
    import pyarrow.parquet as pq

    arguments.answers.mkdir(parents=True, exist_ok=True)
    for question, table in answers.items():
        pq.write_table(table, arguments.answers / f"{question}.parquet")
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
