"""The files for operators are of this service: names in them exist, and systemd takes the unit."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.service.fakes import FakeHost, FakeKeys, client, settings
from tests.service.test_server import serving
from tests.store.test_findings import finding, table
from trace_engine.service.app import create_app
from trace_engine.service.probe import answers
from trace_engine.service.settings import ServiceSettings, load
from trace_engine.service.upkeep import Upkeep
from trace_engine.store.audit import AuditFilters, AuditLog
from trace_engine.store.database import Database
from trace_engine.store.findings_table import FindingStore
from trace_engine.store.moments import to_micros
from trace_engine.store.tables import FINDING

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def metric_names() -> set[str]:
    app = create_app(
        FakeHost(), settings(), keys=FakeKeys(), audit=lambda _: None, routes=("stream",)
    )
    with client(app) as c:
        c.get("/healthz")
        c.post("/v1/nothing", content=b"x")
        text = c.get("/metrics").text
    samples = set(re.findall(r"^(trace_engine_\w+)", text, re.MULTILINE))
    return samples | set(
        re.findall(r"^# TYPE (trace_engine_\w+) (?:gauge|histogram)", text, re.MULTILINE)
    )


def test_alerts_and_page_name_metrics_that_exist() -> None:
    known = metric_names()
    alerts = set(re.findall(r"trace_engine_\w+", (DEPLOY / "alerts.yml").read_text("utf-8")))
    assert alerts
    assert alerts - known == set()
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    told = set(re.findall(r"`(trace_engine_\w+)", page))
    assert told - known == set()
    bare = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in known}
    assert {n for n in bare if "_process_" not in n} - told == set()


def test_every_alert_is_explained() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for name in re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yml").read_text("utf-8")):
        assert f"`{name}`" in page


def test_example_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACE_ENGINE_CONFIG", raising=False)
    assert load(DEPLOY / "service.toml").port == ServiceSettings.model_fields["port"].default


def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "trace-engine.service").read_text("utf-8")
    unit = tmp_path / "trace-engine.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trace-engine" not in done.stderr, done.stderr


def test_container_runs_as_nobody_in_particular_and_copies_what_is_there() -> None:
    lines = (DEPLOY / "Containerfile").read_text("utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    for names in copied:
        for name in names:
            assert (ROOT / name).exists(), name
    ignore = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for names in copied for name in names} <= set(ignore)
    user = lines.index("USER trace-engine")
    assert user < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    for name in re.findall(r"TRACE_ENGINE_(\w+)=", "\n".join(lines)):
        assert name == "CACHE_DIR" or name.lower() in ServiceSettings.model_fields


def test_probe_tells_a_service_from_none() -> None:
    with serving(settings(port=0)) as (host, port):
        assert answers(settings(host=host, port=port))
        assert answers(settings(host="0.0.0.0", port=port))
    assert not answers(settings(host=host, port=port))


def test_upkeep_applies_the_years_and_notes_what_is_gone(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "x.sqlite3")
    audit = AuditLog(database)
    now = datetime.now(UTC)
    old = now.replace(year=now.year - 6, day=1)
    audit.add([{"at": old, "action": "seller.read", "subject": "S1"}])
    audit.add([{"at": now, "action": "seller.read", "subject": "S2"}])
    FindingStore(database).add(table(finding("a")), 1, [False])
    told: list[int] = []
    upkeep = Upkeep(database, audit, 5, deleted=lambda: told.append(FindingStore(database).count()))
    assert upkeep.once()["audit"] == 1
    assert told == []  # no findings were among it
    notes, _ = audit.page(AuditFilters(), None, 10)
    assert [note["action"] for note in notes] == ["retention.apply", "seller.read"]
    assert notes[0]["details"] == {"audit": 1}
    with database.write() as connection:
        connection.execute(update(FINDING).values(stored_at=to_micros(old)))
    assert upkeep.once()["finding"] == 1
    assert told == [0]
    database.close()


def test_upkeep_goes_on_after_a_failure(tmp_path: Path) -> None:
    tried = threading.Event()

    class Broken:
        times = 0

        def apply_retention(self, years: int, now: datetime) -> dict[str, int]:
            self.times += 1
            if self.times == 2:
                tried.set()
            raise OSError("out of reach")

    upkeep = Upkeep(Broken(), AuditLog(None), 5, first=0.0, period=0.001)  # type: ignore[arg-type]
    upkeep.start()
    assert tried.wait(20)
    upkeep.close()
