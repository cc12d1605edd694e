"""Exit codes, and errors of one line in the chosen language."""

from __future__ import annotations

import errno
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from trace_engine.cli import bilingual, errors, root
from trace_engine.cli.errors import print_error


def only_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    "args,english,chinese",
    [
        (["scor"], "no such command 'scor'; did you mean 'score'?", "没有命令 'scor'，是否指 score？"),
        (["score"], "Missing argument 'INPUT...'", "缺少 INPUT..."),
        (["score", "x"], "Missing option '--out'", "缺少 --out"),
        (["score", "x", "--out", "y", "--workrs", "2"], "--workrs", "没有选项 --workrs"),
        (["score", "x", "--out", "y", "--workers", "0"], "0 is not in the range", "--workers 的值不可用"),
        (["score", "x", "--out", "y", "--memory", "lots"], "expected like 8G or 512M", "应如 8G 或 512M"),
        (["score", "x", "--out", "y", "--memory", "1M"], "expected 256M or more", "至少 256M"),
        (["score", "x", "--out", "y", "--format", "xml"], "'xml' is not one of", "--format 的值不可用"),
        (["rank", "nowhere"], "not an output folder", "不是 trace-engine 的结果文件夹"),
        (["verify", "nowhere"], "no manifest.json", "没有 manifest.json"),
        (["explain", "nowhere"], "give exactly one of", "请给出"),
        (["explain", "x", "--finding", "a", "--code", "b"], "give exactly one of", "请给出"),
        (["catalog", "nothing"], "no such detector: nothing", "没有检测规则 nothing"),
        (["simulate", "--events", "5", "--out", "x"], "5 is not in the range", "--events 的值不可用"),
        (["convert", "nowhere.csv", "--out", "x.csv"], "no such file or folder", "找不到文件或文件夹"),
        (["convert", "nowhere.csv", "--out", "x.doc"], "expected a name ending in", "扩展名应为"),
    ],
)  # fmt: skip
def test_unusable_arguments(
    cli: Run,
    args: list[str],
    english: str,
    chinese: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*args)
    assert (done.code, done.out) == (2, "")
    line = only_line(done.err)
    assert line.startswith("error: ")
    assert english in line
    done = cli(*args, "--lang", "zh") if args != ["scor"] else cli("--lang", "zh", *args)
    assert done.code == 2
    line = only_line(done.err)
    assert line.startswith("错误：")
    assert chinese in line
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_show_the_help(cli: Run) -> None:
    done = cli()
    assert done.code == 2
    assert "Commands:" in done.out
    assert cli("--help").code == 0


@pytest.mark.parametrize(
    "environ,args,expected",
    [
        ({}, [], "en"),
        ({"LANG": "zh_CN.UTF-8"}, [], "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, [], "en"),
        ({"LANG": "zh_CN.UTF-8", "TRACE_ENGINE_LANG": "en"}, [], "en"),
        ({"LANG": "zh_CN.UTF-8"}, ["score", "--lang", "en"], "en"),
        ({}, ["score", "--lang=zh"], "zh"),
        ({"LANG": "zh_TW"}, ["--lang", "fr"], "zh"),
        ({}, ["--lang"], "en"),
    ],
)
def test_language(environ: dict[str, str], args: list[str], expected: str) -> None:
    assert bilingual.language_of(args, environ) == expected


def test_help_is_in_the_language_asked_for(cli: Run) -> None:
    english, chinese = cli("score", "--help").out, cli("score", "--help", "--lang", "zh").out
    assert "Usage:" in english
    assert "用法：" in chinese
    assert "选项:" in chinese
    assert "Options" not in chinese
    assert "[required]" not in chinese
    assert "[default: " not in chinese
    assert not any("\u4e00" <= c <= "\u9fff" for c in english)


def raising(error: BaseException) -> object:
    def command(*_: object, **__: object) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    "error,code,text",
    [
        (OSError(errno.ENOSPC, "No space left", "out/x"), 2, "out/x: no space left on the disk"),
        (PermissionError(errno.EACCES, "denied", "out"), 2, "out: permission denied"),
        (MemoryError(), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by zero"), 2, "internal error ZeroDivisionError: by zero (run with"),
    ],
)
def test_failures_while_running(
    cli: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    monkeypatch.setattr(root.group, "main", raising(error))
    done = cli("version")
    assert done.code == code
    assert text in only_line(done.err)
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root.group, "main", raising(errors.UserError("no")))
    assert "Traceback" in cli("version", "--debug").err
    assert "Traceback" not in cli("version").err


def test_library_errors_are_known_by_name() -> None:
    from trace_engine.policy import PolicyError
    from trace_engine.ranking.evaluation import TruthError
    from trace_engine.readers import InputError
    from trace_engine.registry import RegistryError
    from trace_engine.reports.errors import ConservationError, OutputError
    from trace_engine.store.checkpoint import CheckpointError
    from trace_engine.store.journal import JournalError, JournalUnwritable
    from trace_engine.store.migrate import StoreError
    from trace_engine.tracing.errors import TraceError

    kinds = {
        PolicyError,
        TruthError,
        InputError,
        RegistryError,
        ConservationError,
        OutputError,
        TraceError,
        CheckpointError,
        JournalError,
        StoreError,
    }
    assert {kind.__name__ for kind in kinds} == errors.EXPECTED_NAMES
    assert errors.is_expected(InputError("x"))
    assert errors.is_expected(JournalUnwritable("x", permanent=True))
    assert not errors.is_expected(ValueError("x"))


def test_errors_with_line_breaks_stay_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    errors.print_error("a\n  b\tc")
    assert capsys.readouterr().err == "error: a b c\n"


def test_a_reader_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    command = f"{sys.executable} -m trace_engine catalog --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--workers", "0"], "读到 0，应在范围 1<=x<=1024 内"),
        (["--workers", "x"], "读到 x，应为整数"),
        (["--format", "xls"], "读到 xls，应为 'auto', 'parquet', 'csv', 'tsv', 'ndjson' 之一"),
    ],
)
def test_wrong_values_are_told_in_chinese(cli: Run, args: list[str], words: str) -> None:
    done = cli("score", "x", "--out", "y", *args, "--lang", "zh")
    assert done.code == 2
    assert words in only_line(done.err)
    assert "is not" not in done.err


def test_a_missing_command_is_told_in_both_languages(cli: Run) -> None:
    assert "缺少命令" in only_line(cli("--lang", "zh").err)
    assert "Missing command" in only_line(cli("--lang", "en").err)


def test_errors_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("name\x1b[31m\x07.csv: wrong")
    assert capsys.readouterr().err == "error: name\ufffd[31m\ufffd.csv: wrong\n"


def test_a_registry_without_files_is_refused_in_the_chosen_language(
    cli: Run, tmp_path: Path
) -> None:
    row = "2026-03-05,retail_sale,81234567000010001234,S1"
    (tmp_path / "scans.csv").write_text(
        f"event_time,event_type,code,actor_id\n{row}\n", encoding="utf-8"
    )
    args = ["score", tmp_path / "scans.csv", "--out", tmp_path / "out", "--registry", tmp_path]
    for words, lang in (("found no registry file", "en"), ("没有主数据文件", "zh")):
        done = cli(*args, "--lang", lang)
        assert done.code == 2
        assert words in only_line(done.err)


def test_warnings_of_threads_speak_the_chosen_language(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trace_engine.events.privacy import RandomKeyWarning

    monkeypatch.setattr(bilingual, "_current", ["zh"])
    thread = threading.Thread(target=root._show_warning, args=(RandomKeyWarning("no key"),))
    thread.start()
    thread.join()
    assert only_line(capsys.readouterr().err).startswith("注意：未设置 TRACE_ENGINE_HASH_KEY")
