"""Settings: which source wins, and how a wrong one is told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from trace_engine.cli.commands.serve import serve
from trace_engine.service.settings import PREFIX, ServiceSettings, SettingsError, load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_arguments_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.toml"
    file.write_text('host = "10.0.0.1"\nport = 1\nlateness_days = 4\nallowed_hosts = ["a", "b"]\n')
    monkeypatch.setenv(PREFIX + "HOST", "10.0.0.2")
    monkeypatch.setenv(PREFIX + "PORT", "2")
    settings = load(file, port=3, lateness_days=None)
    assert (settings.host, settings.port, settings.lateness_days) == ("10.0.0.2", 3, 4)
    assert settings.allowed_hosts == ("a", "b")
    assert settings.body_seconds == ServiceSettings.model_fields["body_seconds"].default
    monkeypatch.setenv(PREFIX + "CONFIG", str(file))
    assert load().lateness_days == 4


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("port = 70000", "port"),
        ("lateness_days = -1", "lateness_days"),
        ("retention_years = 4", "retention_years"),  # the law asks for five
        ('rate_per_key = "often"', "rate_per_key"),
        ('tls_key = "k.pem"', "tls_certificate"),
        ('tls_client_ca = "c.pem"', "tls_certificate"),
        ("prot = 1", "prot"),
        ("= 1", "service.toml"),
    ],
)
def test_wrong_setting_is_one_line_that_names_it(tmp_path: Path, line: str, named: str) -> None:
    file = tmp_path / "service.toml"
    file.write_text(line)
    with pytest.raises(SettingsError, match=named) as told:
        load(file)
    assert "\n" not in str(told.value)


def test_values_are_not_told_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "PORT", "hunter2-password")
    with pytest.raises(SettingsError) as told:
        load()
    assert "hunter2" not in str(told.value)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.1.1.1", "localhost.evil")],
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert load(host=host).is_loopback is expected


def test_default_database_lies_inside_the_data_folder(tmp_path: Path) -> None:
    assert load(data=tmp_path).database_url == f"sqlite:///{tmp_path}/trace-engine.sqlite3"
    assert load(database="postgresql://x/y").database_url == "postgresql://x/y"


def test_operators_page_names_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    missing = set(ServiceSettings.model_fields) - set(rows)
    assert missing == set()
    for name, field in ServiceSettings.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            told = float(rows[name].replace(" ", "").replace("`", "") or "nan")
            assert told == field.default, name


def test_one_processor_is_left_to_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, threads in ((4, 3), (2, 1), (1, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=there: set(range(n)))
        assert load().threads == threads
    told = CliRunner().invoke(serve, ["--lang", "en", "--help"]).output
    assert "processors - 1, at least 1" in " ".join(told.split())
