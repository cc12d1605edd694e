"""Policy files: values by day, inheritance, provenance, and how wrong files are refused."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.policy import Policy, PolicyError
from trace_engine.policy.files import policies_folder


class Turnover(msgspec.Struct, frozen=True, kw_only=True):
    k: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    dwell_hours: Annotated[float, msgspec.Meta(gt=0, le=720)] = 72.0
    level: str = "city"
    tags: tuple[str, ...] = ()


class FakeDetector:
    parameters = Turnover


def day(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


def load(tmp_path: Path, body: str, head: str = '[policy]\nname = "x"\n') -> Policy:
    path = tmp_path / "mine.toml"
    path.write_text(head + body, encoding="utf-8")
    return Policy.load(path)


def test_the_default_policy_states_every_published_and_proposed_value() -> None:
    policy = Policy.load()
    today = day("2026-06-01")
    assert policy.version.startswith("default 2026.1 ")
    assert len(policy.version.split()[-1]) == 8
    assert policy.history_from is None
    assert policy.general(today).clock_skew_minutes == 10
    assert policy.general(today).deduplication_days == 31
    hops = policy.provenance("repeated_transfer", "max_hops", today)
    assert hops is not None
    assert (hops.value, hops.unit, hops.source) == (4, "hops", "proposed")
    assert policy.provenance("repeated_transfer", "nothing", today) is None
    (quota,) = policy.quotas(today)
    assert quota.class_name == "ephedrine_compound"
    assert quota.per_sale == 2
    assert quota.windows == ((7, 4), (30, 8))
    assert "260号" in quota.source
    assert quota.windows_source == "proposed"
    assert policy.quotas(day("2012-09-03")) == []


def test_every_value_of_the_default_policy_has_unit_source_and_date() -> None:
    for key, periods in Policy.load()._contents.periods.items():
        for period in periods:
            assert period.source, key
            assert period.unit, key
            assert period.first > day("2000-01-01"), key


def test_the_default_policy_fits_the_detectors() -> None:
    from trace_engine.detectors.registry import detector_classes

    classes = detector_classes()
    policy = Policy.load()
    stated = {key[1] for key in policy._contents.periods if key[0] == "detectors"}
    for identifier in sorted(stated & set(classes)):
        kind = classes[identifier].parameters
        assert policy.parameters(identifier, kind, day("2026-06-01")) == kind(), identifier


def test_every_threshold_of_the_package_stands_in_the_default_policy() -> None:
    from trace_engine.detectors.registry import detector_classes

    policy = Policy.load()
    missing = [
        f"{identifier}.{field.encode_name}"
        for identifier, detector in detector_classes().items()
        if detector.__module__.startswith("trace_engine.")
        for field in msgspec.structs.fields(detector.parameters)
        if policy.provenance(identifier, field.encode_name, day("2026-06-01")) is None
    ]
    assert missing == []


def test_ranking_and_plan_have_their_defaults_in_the_default_policy() -> None:
    from trace_engine.ranking.parameters import RankingParameters
    from trace_engine.sampling.parameters import SamplingParameters

    policy = Policy.load()
    for section, kind in (("ranking", RankingParameters), ("sampling", SamplingParameters)):
        assert policy.section(section, kind) == kind()
        stated = {key[1] for key in policy._contents.periods if key[0] == section}
        assert stated == {field.encode_name for field in msgspec.structs.fields(kind)}


def test_values_change_on_their_day(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        '[[detectors.t.k]]\nvalue = 4\nunit = "hops"\nsource = "A"\neffective_to = 2026-03-31\n'
        '[[detectors.t.k]]\nvalue = 5\nsource = "B"\neffective_from = 2026-05-01\n',
    )
    assert [
        policy.parameters("t", Turnover, day(d)).k
        for d in ("2020-01-01", "2026-03-31", "2026-04-01", "2026-04-30", "2026-05-01")
    ] == [4, 4, 3, 3, 5]
    assert policy.change_days() == [day("2026-04-01"), day("2026-05-01")]
    assert policy.provenance("t", "k", day("2026-04-15")) is None
    late = policy.provenance("t", "k", day("2026-05-01"))
    assert late is not None
    assert late.source == "B"
    assert policy.segment(day("2026-03-31")) != policy.segment(day("2026-04-01"))
    assert policy.segment(day("2026-04-01")) == policy.segment(day("2026-04-30"))


def test_a_partial_policy_inherits(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        '[detectors.rapid_turnover]\nk = 5\n[[quotas]]\nclass = "psychotropic_2"\nper_sale = 1\n'
        'source = "试点"\neffective_from = 2026-01-01\n',
        '[policy]\nname = "鲁"\nextends = "default"\nhistory_from = 2025-01-01\n',
    )
    today = day("2026-06-01")
    mine = policy.provenance("rapid_turnover", "k", today)
    inherited = policy.provenance("rapid_turnover", "dwell_hours", today)
    assert mine is not None
    assert inherited is not None
    assert (mine.value, mine.source) == (5, "鲁")
    assert inherited.value == 72
    assert policy.history_from == day("2025-01-01")
    assert [q.class_name for q in policy.quotas(today)] == ["ephedrine_compound", "psychotropic_2"]
    assert len(policy.rules()) == len(Policy.load().rules())
    assert policy.version != Policy.load().version


def test_a_policys_own_limit_replaces_the_inherited_one(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        '[[quotas]]\nclass = "ephedrine_compound"\nper_sale = 1\nsource = "S"\n'
        "effective_from = 2026-01-01\n",
        '[policy]\nname = "x"\nextends = "default"\n',
    )
    (quota,) = policy.quotas(day("2026-06-01"))
    assert (quota.per_sale, quota.windows) == (1, ())
    assert policy.quotas(day("2025-06-01")) == []


def test_list_files_lie_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[[rules]]\nid = "mine"\nlist = "online_ban"\ntitle_zh = "甲"\ntitle_en = "a"\n'
        'source = "s"\neffective_from = 2026-01-01\nnames = ["甲药"]\n',
        encoding="utf-8",
    )
    policy = load(tmp_path, "", '[policy]\nname = "x"\nlists = ["own.toml"]\n')
    assert [rule.id for rule in policy.rules()] == ["mine"]


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    first = load(tmp_path, "[general]\nclock_skew_minutes = 10\n").version
    again = load(tmp_path, "# a comment\n[general]\nclock_skew_minutes = 10\n").version
    other = load(tmp_path, "[general]\nclock_skew_minutes = 11\n").version
    assert first == again != other


def test_sections_for_others(tmp_path: Path) -> None:
    policy = load(tmp_path, "[ranking]\nk = 7\n")
    assert policy.section("ranking", Turnover).k == 7
    assert policy.section("sampling", Turnover) == Turnover()
    with pytest.raises(ValueError, match="no section"):
        policy.section("detectors", Turnover)


WRONG = {
    "syntax": ("[detectors.t]\nk = \n", 4, "valid TOML"),
    "unclosed": ("[detectors.t]\nk = [1,\n2\n", 5, "valid TOML"),
    "section": ("\n[detector]\nk = 1\n", 4, "one of detectors"),
    "head": ('title = "x"\n', 3, "one of extends"),
    "extends": ('extends = "nothing"\n', 3, "default"),
    "lists": ('lists = ["absent.toml"]\n', 3, "a file beside"),
    "history": ('history_from = "2025"\n', 3, "a date"),
    "parameter": ("[detectors.t]\nk = 3\n\nkk = 3\n", 6, "dwell_hours, k"),
    "type": ('[detectors.t]\nk = "three"\n', 4, "expected int"),
    "bounds": ("[detectors.t.k]\nsource = \"p\"\nvalue = 21\n", 5, "<= 20"),
    "bool is no number": ("[detectors.t]\nk = true\n", 4, "expected int"),
    "inline": ('[detectors.t]\nk = { value = 0, source = "p" }\n', 4, ">= 1"),
    "key": ('[detectors.t.k]\nvalue = 3\nsource = "p"\nfrom = 2026-01-01\n', 6, "effective_from"),
    "source": ("[detectors.t.k]\nvalue = 3\n", 3, "found no source"),
    "date": ('[detectors.t.k]\nvalue = 3\nsource = "p"\neffective_from = "x"\n', 6, "a date"),
    "reversed": (
        ('[detectors.t.k]\nvalue = 3\nsource = "p"\neffective_from = 2026-01-02\n'
         "effective_to = 2026-01-01\n"),
        7, "not before",
    ),
    "overlap": (
        ('[[detectors.t.k]]\nvalue = 3\nsource = "p"\n\n[[detectors.t.k]]\nvalue = 4\n'
         'source = "p"\neffective_from = 2026-01-01\n'),
        8, "periods apart",
    ),
    "detector": ("[detectors.t]\nk = 3\n[detectors.u]\nk = 3\n", 6, "found the unknown detector"),
    "not a table": ("[detectors]\nt = 3\n", 4, "a table"),
    "general": ("[general]\nclock_skew_minutes = -1\n", 4, ">= 0"),
    "general name": ("[general]\nclock = 1\n", 4, "clock_skew_minutes"),
    "quota": (
        ('[[quotas]]\nclass = "a"\nsource = "s"\neffective_from = 2026-01-01\nper_sale = 0\n'),
        7, ">= 1",
    ),
    "no limit": (
        '[[quotas]]\nclass = "a"\nsource = "s"\neffective_from = 2026-01-01\n', 3, "per_sale"
    ),
    "second quota": (
        ('[[quotas]]\nclass = "a"\nsource = "s"\neffective_from = 2026-01-01\nper_sale = 2\n'
         '[[quotas]]\nclass = "b"\nsource = "s"\neffective_from = 2026-01-01\nper_sale = "x"\n'),
        12, "int",
    ),
    "rule key": ('[[rules]]\nid = "a"\nwords = ["x"]\n', 3, "unknown field words"),
    "rule composition": (
        ('[[rules]]\nid = "a"\nlist = "b"\ntitle_zh = "c"\ntitle_en = "c"\nsource = "s"\n'
         'effective_from = 2026-01-01\ncomposition = "double"\n'),
        10, "composition",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_with_their_line(tmp_path: Path, case: str) -> None:
    body, line, part = WRONG[case]
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, body).check({"t": FakeDetector})
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'mine.toml'}:{line}: "), message
    assert "found" in message
    assert "expected" in message
    assert part in message


def test_two_limits_of_one_day_are_refused(tmp_path: Path) -> None:
    entry = '[[quotas]]\nclass = "a"\nsource = "s"\neffective_from = 2026-01-0{}\nper_sale = 2\n'
    with pytest.raises(PolicyError, match=r"mine\.toml:8: quotas: found a second limit of a"):
        load(tmp_path, entry.format(1) + entry.format(2))


def test_one_rule_id_twice_is_refused(tmp_path: Path) -> None:
    entry = (
        '[[rules]]\nid = "mine"\nlist = "online_ban"\ntitle_zh = "甲"\ntitle_en = "a"\n'
        'source = "s"\neffective_from = 2026-01-01\n'
    )
    with pytest.raises(PolicyError, match=r"mine\.toml:10: rules: found the id 'mine'"):
        load(tmp_path, entry + entry)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such file"):
        Policy.load(tmp_path / "missing.toml")
    with pytest.raises(PolicyError, match="expected name"):
        load(tmp_path, "", "")
    (tmp_path / "latin.toml").write_bytes(b'[policy]\nname = "\xe9"\n')
    with pytest.raises(PolicyError, match="not UTF-8"):
        Policy.load(tmp_path / "latin.toml")


def test_a_policy_cannot_extend_itself(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="circle"):
        load(tmp_path, "", '[policy]\nname = "x"\nextends = "mine.toml"\n')


def test_shipped_policies_are_found_by_name() -> None:
    assert Policy.load("default").version == Policy.load().version
    assert (policies_folder() / "lists").is_dir()


DEFAULT_TEXT = (policies_folder() / "lists" / "restricted.toml").read_text("utf-8") + (
    (policies_folder() / "default.toml").read_text("utf-8").replace("lists = [", "# lists = [")
)


@given(st.integers(0, 15_000), st.integers(0, 40), st.text("[]{}=\"'#\n,.1ax-", max_size=6))
def test_a_spoilt_file_ends_in_one_line_or_is_a_policy(start: int, length: int, put: str) -> None:
    text = DEFAULT_TEXT[:start] + put + DEFAULT_TEXT[start + length :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoilt.toml"
        path.write_text(text, encoding="utf-8")
        refusal = ""
        try:
            policy = Policy.load(path)
        except PolicyError as error:
            refusal = str(error)
        if refusal:
            assert "\n" not in refusal
            assert refusal.startswith(f"{path}:")
        else:
            assert policy.general(day("2026-06-01")).clock_skew_minutes >= 0
