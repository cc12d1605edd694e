"""A detector in a package of its own: the example is built, installed, found and used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "detector-plugin"

EVENTS = """\
event_id,event_time,event_type,code,actor_id,unit_price,quantity
a,2026-03-02 02:30:00,retail_sale,81234560000000010001,shop-1,10.00,1
b,2026-03-02 10:30:00,retail_sale,81234560000000020001,shop-1,10.00,1
c,2026-03-02,retail_sale,81234560000000030001,shop-1,10.00,1
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example and install it into a folder of its own; return the folder."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--disable-pip-version-check", "--target", str(folder), str(EXAMPLE)),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder


def run(code: str, *arguments: str, path: Path | None = None) -> list[str]:
    """Run ``code`` in a fresh interpreter that sees the plug-in's folder; return its lines."""
    found = [str(path)] if path else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*found, str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


CATALOGUE = """
from trace_engine.detectors.registry import detector_classes
print(*detector_classes(), sep="\\n")
"""

SCORE = """
import json, sys
import trace_engine
result = trace_engine.score([sys.argv[1]])
columns = ["detector", "subject_id", "event_ids", "explanation_zh"]
for row in result.findings.select(columns).to_pylist():
    print(json.dumps(row, ensure_ascii=False))
"""


def test_the_plug_in_joins_the_catalogue_when_it_is_installed(installed: Path) -> None:
    assert "night_sale" not in run(CATALOGUE)
    with_plug_in = run(CATALOGUE, path=installed)
    assert sorted([*run(CATALOGUE), "night_sale"]) == with_plug_in


def test_its_findings_stand_beside_the_others(installed: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text(EVENTS, encoding="utf-8")
    rows = [json.loads(line) for line in run(SCORE, str(events), path=installed)]
    night = [row for row in rows if row["detector"] == "night_sale"]
    assert [(row["subject_id"], row["event_ids"]) for row in night] == [("shop-1", ["a"])]
    assert "shop-1" in night[0]["explanation_zh"]
