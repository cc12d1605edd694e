"""``trace-engine plan``: a sampling plan for a budget, from an output folder."""

from __future__ import annotations

from pathlib import Path

from trace_engine.cli.bilingual import Text, command, common, language, say
from trace_engine.cli.settings import (
    budget_option,
    folder_argument,
    policy_option,
    registry_option,
    seed_option,
)

SHOWN = 20  # lines of the plan
SHOWN_WHY = 70  # characters of a reason; all of it stands in the file


@command(
    about=Text(
        "按预算重做结果文件夹中的抽检计划（sampling_plan.csv），并更新清单。\n\n"
        "登记数据和策略默认为 score 时所用。",
        "Make the sampling plan of an output folder anew for a budget (sampling_plan.csv; the "
        "manifest is renewed).\n\nRegistry and policy default to those that score used.",
    )
)
@folder_argument
@budget_option
@seed_option
@registry_option
@policy_option
@common
def plan(
    folder: Path,
    budget: int,
    seed: int,
    registry: Path | None,
    policy: str | None,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Write the plan and print its first lines."""
    import click

    from trace_engine.cli.folder import read_table
    from trace_engine.cli.show import table
    from trace_engine.policy import Policy
    from trace_engine.registry import Registry
    from trace_engine.reports import manifest, output
    from trace_engine.reports.explain import shortened
    from trace_engine.sampling import plan as make_plan

    run = manifest.read(folder).get("run", {})
    if registry is None and run.get("registry"):
        registry = Path(run["registry"])
    sellers = read_table(folder, "sellers.parquet")
    made = make_plan(
        sellers,
        read_table(folder, "findings.parquet"),
        Registry.load(registry),
        Policy.load(policy or run.get("policy")),
        budget=budget,
        seed=seed,
        as_of=output.plan_day(sellers),
    )
    path = output.replace_plan(folder, made, budget, seed)
    zh = language() == "zh"
    headers = (
        ("#", "方式", "企业", "药品", "渠道", "为什么")
        if zh
        else ("#", "arm", "seller", "drug", "how", "why")
    )
    suffix = "zh" if zh else "en"
    rows = [
        (
            row["sequence"],
            {"risk": "风险", "random": "随机"}.get(row["arm"], row["arm"]) if zh else row["arm"],
            row["name"] or row["enterprise_id"],
            row["generic_name"] or row["drug_id"],
            row[f"method_{suffix}"],
            shortened(row[f"why_{suffix}"] or "", SHOWN_WHY),
        )
        for row in made.slice(0, SHOWN).to_pylist()
    ]
    table(headers, rows)
    click.echo(
        say(
            f"共 {made.num_rows} 个样品（预算 {budget}，种子 {seed}）：{path}",
            f"{made.num_rows} samples (budget {budget}, seed {seed}): {path}",
        )
    )
    return 0
