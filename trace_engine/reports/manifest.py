"""manifest.json: what went in, what came out, and a chain of hashes that shows any later change.

The chain starts at the hash of the *head* (inputs, policy, versions, counts) and takes up the
outputs in order of name: each entry's hash covers the hash before it, the file's name and the
file's SHA-256. Changing, removing, adding or renaming a file, or editing the head, breaks it.
``run`` (wall-clock facts: when and how long) stands outside, so that two runs over the same data
give the same chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trace_engine.reports.errors import ConservationError, OutputError

FORMAT = "trace-engine-output/1"
MANIFEST = "manifest.json"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing :func:`verify` found wrong.

    ``kind`` is one of ``changed``, ``missing``, ``added``, ``chain``, ``head``, ``counts``.
    """

    kind: str
    name: str
    zh: str
    en: str


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def head_hash(head: Mapping[str, Any]) -> str:
    """Return the hash of the head: SHA-256 of its JSON with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(head, order="sorted")).hexdigest()


def chain(start: str, files: Sequence[tuple[str, str]]) -> list[str]:
    """Return the chained hash of each ``(name, sha256)``, beginning from ``start``."""
    hashes, previous = [], start
    for name, digest in files:
        previous = text_sha256(f"{previous}\n{name}\n{digest}")
        hashes.append(previous)
    return hashes


def check_conservation(counts: Mapping[str, int]) -> None:
    """Raise :class:`ConservationError` unless rows = events + duplicates + rejects."""
    rows = counts["rows"]
    parts = counts["events"] + counts["duplicates"] + counts["rejects"]
    if rows != parts:
        raise ConservationError(rows, parts)


def build(
    head: Mapping[str, Any], folder: Path, names: Sequence[str], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of the files ``names`` in ``folder``.

    ``head`` holds what is hashed, ``run`` what is not. ``head["counts"]`` must be conserved.
    """
    check_conservation(head["counts"])
    files = [(name, file_sha256(folder / name)) for name in sorted(names)]
    start = head_hash(head)
    return {
        "format": FORMAT,
        "head": dict(head),
        "head_hash": start,
        "outputs": [
            {
                "name": name,
                "bytes": (folder / name).stat().st_size,
                "sha256": digest,
                "chain": link,
            }
            for (name, digest), link in zip(files, chain(start, files), strict=True)
        ],
        "run": dict(run),
    }


def renewed(
    manifest: Mapping[str, Any], path: Path, head_changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``manifest`` with one file hashed anew and changes made to its head.

    All other files keep the hash they had, whatever is on disk now.
    """
    head = {**manifest["head"], **head_changes}
    entries = [dict(entry) for entry in manifest["outputs"]]
    for entry in entries:
        if entry["name"] == path.name:
            entry.update(bytes=path.stat().st_size, sha256=file_sha256(path))
    start = head_hash(head)
    files = [(entry["name"], entry["sha256"]) for entry in entries]
    for entry, link in zip(entries, chain(start, files), strict=True):
        entry["chain"] = link
    return {**manifest, "head": head, "head_hash": start, "outputs": entries}


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest of an output folder; :class:`OutputError` if it is none of ours."""
    path = folder / MANIFEST
    if not path.is_file():
        raise OutputError(
            f"{folder}：不是 trace-engine 的结果文件夹（没有 {MANIFEST}）",
            f"{folder}: not an output folder of trace-engine (no {MANIFEST})",
        )
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        well_formed = (
            manifest["format"] == FORMAT
            and isinstance(manifest["head"], dict)
            and all(isinstance(entry["name"], str) for entry in manifest["outputs"])
        )
    except (msgspec.DecodeError, KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise OutputError(
            f"{path}：清单无法读取，应为 {FORMAT} 格式的 JSON",
            f"{path}: unreadable manifest, expected JSON of format {FORMAT}",
        )
    return manifest


def verify(folder: Path) -> list[Difference]:
    """Return every difference between an output folder and its manifest; empty if there is none.

    Files directly in the folder count; subfolders are not part of an output. Names are checked
    before use: a manifest cannot make this function read outside its folder.
    """
    manifest = read(folder)
    found: list[Difference] = []
    if head_hash(manifest["head"]) != manifest.get("head_hash"):
        found.append(
            Difference("head", MANIFEST, "清单头部被改动", "the manifest's head was changed")
        )
    try:
        check_conservation(manifest["head"]["counts"])
    except (ConservationError, KeyError, TypeError):
        found.append(
            Difference("counts", MANIFEST, "清单中的行数不守恒", "row counts do not add up")
        )
    previous = str(manifest.get("head_hash"))
    listed = {MANIFEST}
    for entry in manifest["outputs"]:
        name = entry["name"]
        listed.add(name)
        expected = text_sha256(f"{previous}\n{name}\n{entry.get('sha256')}")
        previous = str(entry.get("chain"))
        if previous != expected:
            found.append(Difference("chain", name, "哈希链断开", "the hash chain is broken"))
        if Path(name).name != name or name in ("", ".", ".."):
            found.append(Difference("chain", name, "文件名不合法", "not a plain file name"))
            continue
        path = folder / name
        if not path.is_file():
            found.append(Difference("missing", name, "文件缺失", "the file is missing"))
        elif file_sha256(path) != entry.get("sha256"):
            found.append(Difference("changed", name, "内容被改动", "the content was changed"))
    found.extend(
        Difference("added", path.name, "清单之外的文件", "not listed in the manifest")
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in listed
    )
    return found
