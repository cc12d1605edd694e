"""What an installed wheel holds: code, data files, templates and the model library, no tests."""

import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel into a folder of its own."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def files_below(folder: str) -> set[str]:
    root = ROOT / folder
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_the_wheel_holds_the_package_and_the_model_library(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    expected = {f"trace_engine/{name}" for name in files_below("trace_engine")}
    models = files_below("models")
    expected |= {f"trace_engine/_models/{name}" for name in models}
    assert expected <= names, sorted(expected - names)
    extra = {name for name in names - expected if ".dist-info/" not in name}
    assert extra == set()
    assert any(name.endswith(".csv") for name in expected), "region codes are data"
    assert any(name.endswith(".toml") for name in models), "the default policy is data"


def test_its_metadata_names_the_command_and_a_light_base(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_string(wheel.read(info).decode())
    assert metadata["Name"] == "trace-engine"
    base = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    heavy = ("scikit-learn", "scipy", "pandas", "duckdb", "polars", "ray", "fastapi")
    assert base
    assert not [r for r in base if r.startswith(heavy)]
    entry_points = wheel.read(info.replace("METADATA", "entry_points.txt")).decode()
    assert "trace-engine = trace_engine.cli:main" in entry_points


def test_constraints_pin_every_requirement() -> None:
    """``pip install -c constraints.txt`` gives everybody the same versions."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert len(pinned) == len(lines), "each line is name==version"
    for requirement in wanted:
        name = requirement.split(">")[0].split("[")[0].strip().lower()
        assert name == "trace-engine" or name in pinned, f"{name} is not pinned"
