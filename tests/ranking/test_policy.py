"""The default policy states what the code defaults to, so that the two cannot drift apart."""

from __future__ import annotations

import msgspec
import pytest

from trace_engine.policy import Policy, PolicyError
from trace_engine.policy.files import policies_folder
from trace_engine.ranking import RankingParameters
from trace_engine.ranking.reference import section
from trace_engine.sampling import SamplingParameters

SECTIONS = {"ranking": RankingParameters, "sampling": SamplingParameters}


@pytest.mark.parametrize("name", SECTIONS)
def test_default_policy_equals_the_defaults(name):
    assert section(Policy.load(), name, SECTIONS[name]) == SECTIONS[name]()


@pytest.mark.parametrize("name", SECTIONS)
def test_default_policy_names_every_parameter(name):
    text = (policies_folder() / "default.toml").read_text(encoding="utf-8")
    block = text.split(f"[{name}]\n", 1)[1].split("# ----", 1)[0]
    for field in msgspec.structs.fields(SECTIONS[name]):
        assert f"{field.name} = " in block or f"[{name}.{field.name}]" in block, field.name


def test_a_policy_of_ones_own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        '[policy]\nname = "own"\nextends = "default"\n'
        '[ranking]\ntier_d = { value = 0.9, unit = "score", source = "鲁药监规〔2026〕1号" }\n'
        '[sampling]\nrandom_share = { value = 0.5, unit = "share", source = "proposed" }\n',
        encoding="utf-8",
    )
    policy = Policy.load(path)
    assert section(policy, "ranking", RankingParameters).tier_d == 0.9
    assert section(policy, "sampling", SamplingParameters).random_share == 0.5
    path.write_text(
        '[policy]\nname = "own"\nextends = "default"\n'
        '[ranking]\ntier_b = { value = 0.9, unit = "score", source = "proposed" }\n',
        encoding="utf-8",
    )
    with pytest.raises(PolicyError, match="tier_b <= tier_c <= tier_d"):
        section(Policy.load(path), "ranking", RankingParameters)
