"""The documents say what the code does: generated pages are current, nothing is left out."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
READMES = ("README.md", "README.zh-CN.md")


def load_builder() -> ModuleType:
    path = ROOT / "scripts" / "build_docs.py"
    spec = importlib.util.spec_from_file_location("build_docs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = load_builder()
NIGHT_SALE = msgspec.defstruct("NightSale", [("from_hour", int, 1), ("to_hour", int, 5)])


@pytest.mark.parametrize("page", sorted(BUILDER.PAGES))
def test_generated_pages_are_current(page: str) -> None:
    """Run ``make docs`` when this fails."""
    assert (DOCS / page).read_text(encoding="utf-8") == BUILDER.PAGES[page]()


@pytest.mark.parametrize("readme", READMES)
def test_every_detector_stands_in_the_readme(readme: str) -> None:
    from trace_engine.detectors.registry import detector_classes

    text = (ROOT / readme).read_text(encoding="utf-8")
    own = [c for c in detector_classes().values() if c.__module__.startswith("trace_engine.")]
    missing = [c.id for c in own if f"`{c.id}`" not in text or c.title_zh not in text]
    assert missing == []


@pytest.mark.parametrize("readme", READMES)
def test_every_command_stands_in_the_readme(readme: str) -> None:
    from trace_engine.cli.root import COMMANDS

    text = (ROOT / readme).read_text(encoding="utf-8")
    assert [name for name in COMMANDS if not re.search(rf"`{name}\b", text)] == []


MARKDOWN = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", text)
    local = [a or b for a, b in targets if not (a or b).startswith(("http:", "https:", "#"))]
    missing = [t for t in local if not (path.parent / t.split("#")[0]).exists()]
    assert missing == []


def policies_shown() -> list[tuple[str, str]]:
    """Return (page, block) for each policy that a page shows whole."""
    blocks = [
        (path.relative_to(ROOT).as_posix(), block)
        for path in MARKDOWN
        for block in re.findall(r"```toml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    return [(page, block) for page, block in blocks if block.startswith("[policy]")]


@pytest.mark.parametrize(("page", "block"), policies_shown(), ids=lambda text: text[:30])
def test_policies_shown_are_accepted(page: str, block: str, tmp_path: Path) -> None:
    from trace_engine.detectors.registry import detector_classes
    from trace_engine.policy import Policy

    for name in re.findall(r'"(lists/[^"]+)"', block):
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / name).touch()
    shown = tmp_path / "shown.toml"
    shown.write_text(block, encoding="utf-8")
    policy = Policy.load(shown)
    known: dict[str, Any] = dict(detector_classes())
    if "night_sale" in block:  # the example's own detector is not installed here
        known["night_sale"] = SimpleNamespace(parameters=NIGHT_SALE)
    policy.check(known)


@pytest.mark.parametrize("readme", READMES)
def test_readme_opens_with_the_two_commands(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    first_block = text.split("```")[1]
    commands = [line for line in first_block.splitlines()[1:] if line.strip()]
    assert len(commands) == 2
    assert commands[0].startswith("make demo")
    assert commands[1].startswith("make test")


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in MARKDOWN:
        named = set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")))
        assert named <= targets, f"{path.name}: {sorted(named - targets)}"
