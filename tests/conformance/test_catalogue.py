"""What every registered detector must bring: a plain twin, cases both ways, parameters, sentences."""

from __future__ import annotations

import itertools
import json
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conformance.casefile import all_cases, world_rows
from tests.conformance.machine import registry_of, run_engine
from tests.conformance.test_placement import everything
from tests.reference.detectors import REFERENCE
from trace_engine.detectors.base import Detector, Parameters
from trace_engine.detectors.registry import detector_classes
from trace_engine.policy import Policy, PolicyError

ROOT = Path(__file__).resolve().parents[2]
DETECTORS = {
    name: cls for name, cls in detector_classes().items() if "trace_engine." in cls.__module__
}


# ---------------------------------------------------------------- every detector has its tests


def test_every_detector_has_a_plain_twin_and_no_twin_is_left_over() -> None:
    assert set(REFERENCE) == set(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_cases_that_fire_and_cases_that_do_not(name: str) -> None:
    mine = [case for case in all_cases() if case.detector == name]
    assert any(case.fires for case in mine), f"add a case that fires to cases/{name}.toml"
    assert any(not case.fires for case in mine), f"add a benign case to cases/{name}.toml"


def test_every_case_is_of_a_detector() -> None:
    assert {case.detector for case in all_cases()} == {*DETECTORS, ""}


# ---------------------------------------------------------------- parameters


def fields_of(cls: type[Detector[Any]]) -> dict[str, Any]:
    """Return JSON schemas of a detector's parameters by name."""
    schema = msgspec.json.schema(cls.parameters)
    found = schema["$defs"][cls.parameters.__name__]
    return dict(found.get("properties", {}))


PARAMETERS = [(name, field) for name, cls in DETECTORS.items() for field in fields_of(cls)]


@pytest.mark.parametrize("name, field", PARAMETERS)
def test_parameters_say_what_they_are(name: str, field: str) -> None:
    schema = fields_of(DETECTORS[name])[field]
    assert schema.get("description")
    assert schema.get("zh")
    assert schema.get("unit")
    assert "default" in schema


def beyond(schema: dict[str, Any]) -> list[Any]:
    """Return values just outside what a parameter may be."""
    if "enum" in schema:
        return ["no such level"]
    out: list[Any] = ["text"]
    if schema.get("type") == "array":
        return [*out, [1]]
    for side, step in (("inimum", -1), ("aximum", 1)):
        bound = "m" + side
        exclusive = f"exclusiveM{side}"
        assert bound in schema or exclusive in schema, "a number needs a lowest and a highest value"
        out.append(schema[bound] + step if bound in schema else schema[exclusive])
    return out


@pytest.mark.parametrize("name, field", PARAMETERS)
def test_parameters_out_of_range_are_refused(name: str, field: str, tmp_path: Path) -> None:
    for value in beyond(fields_of(DETECTORS[name])[field]):
        path = tmp_path / "policy.toml"
        path.write_text(
            '[policy]\nname = "wrong"\nextends = "default"\n\n'
            f"[detectors.{name}.{field}]\nvalue = {json.dumps(value)}\n"
            'unit = "x"\nsource = "proposed"\neffective_from = 2020-01-01\n',
            encoding="utf-8",
        )
        with pytest.raises(PolicyError) as error:
            Policy.load(path).check(DETECTORS)
        assert "\n" not in str(error.value)
        assert "expected" in str(error.value)


@pytest.mark.parametrize("name", DETECTORS)
def test_parameters_are_within_their_own_bounds(name: str) -> None:
    kind = DETECTORS[name].parameters
    assert issubclass(kind, Parameters)
    assert msgspec.convert(msgspec.to_builtins(kind()), kind) == kind()


@pytest.mark.parametrize("name", DETECTORS)
def test_default_policy_states_every_parameter_with_its_source(name: str) -> None:
    policy = Policy.load()
    for field in fields_of(DETECTORS[name]):
        stated = policy.provenance(name, field, 20148)
        assert stated is not None, f"models/policies/default.toml does not state {field}"
        assert stated.source
        assert stated.unit


# ---------------------------------------------------------------- what a case officer reads


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_declare_what_the_catalogue_shows(name: str) -> None:
    cls = DETECTORS[name]
    for text in (cls.title_zh, cls.title_en, cls.basis, cls.unit, cls.key, cls.false_positives):
        assert text.strip()
    assert cls.rows
    for text in (cls.title_zh, cls.sentence_zh, cls.false_positives_zh):
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text)
    assert cls.sentence_en.isascii() or "·" in cls.sentence_en


@pytest.mark.parametrize("name", DETECTORS)
def test_sentences_name_the_same_things_in_both_languages(name: str) -> None:
    cls = DETECTORS[name]

    def fields(template: str) -> set[str]:
        names = {field for _, field, _, _ in string.Formatter().parse(template) if field}
        return {field.removesuffix("_zh").removesuffix("_en") for field in names}

    # How codes are counted and which one stands for them is each language's own way of speaking.
    codes = {"code", "code_count", "packs"}
    for template in (cls.sentence_zh, cls.sentence_en):
        assert {"subject", "seller_party", *codes} & fields(template)
    assert fields(cls.sentence_zh) - codes == fields(cls.sentence_en) - codes


def test_sentences_never_fail() -> None:
    """All detectors on all cases, with a registry and with none: no field is left open."""
    for registry in (registry_of(world_rows()), None):
        rows = everything()
        found = run_engine(rows, registry or registry_of({})).findings.to_pylist()
        assert found
        for finding, lang in itertools.product(found, ("zh", "en")):
            text = finding[f"explanation_{lang}"]
            assert text
            assert "{" not in text
            assert "nan" not in text.lower().split()
            assert "None" not in text
            json.loads(finding["evidence"])


def test_findings_keep_their_contract() -> None:
    found = run_engine(everything(), registry_of(world_rows())).findings.to_pylist()
    ids = [finding["finding_id"] for finding in found]
    assert len(set(ids)) == len(ids)
    known = {row["event_id"] for row in everything()}
    for finding in found:
        cls = DETECTORS[finding["detector"]]
        assert finding["family"] == cls.family.value
        assert 0 <= finding["severity"] <= 1
        assert finding["event_ids"]
        assert set(finding["event_ids"]) <= known
        assert finding["code_count"] >= 1
        assert finding["unit"] == cls.unit


# ---------------------------------------------------------------- compiled or not


def test_compiled_or_not() -> None:
    """The kernels give the same findings as plain Python functions."""
    program = (
        "import hashlib\n"
        "from tests.conformance.machine import registry_of, run_engine\n"
        "from tests.conformance.strategies import case_of\n"
        "total = hashlib.sha256()\n"
        "for seed in range(6):\n"
        "    case = case_of(seed, codes=6, events=10)\n"
        "    found = run_engine(case.rows, registry_of(case.registry)).findings\n"
        "    total.update(repr(found.to_pylist()).encode())\n"
        "print(found.num_rows, total.hexdigest())\n"
    )

    def run(disable: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "NUMBA_DISABLE_JIT": disable, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return done.stdout

    assert run("1") == run("0")
