"""Where results go: JSON, one file per interpreter and kind, in build/benchmarks/results."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.interpreters import FOLDER, Interpreter

RESULTS = FOLDER / "results"
DOCS = FOLDER.parent.parent / "docs" / "benchmarks.md"


def machine() -> dict[str, object]:
    """What the numbers were measured on. No names, no paths."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE)
        if info.exists()
        else None
    )
    return {
        "processor": found[1] if found else processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _path(kind: str, interpreter: Interpreter, part: str = "") -> Path:
    return RESULTS / f"{kind}-{interpreter.tag}{part and '-' + part}.json"


def kept(kind: str, interpreter: Interpreter, part: str = "") -> dict[str, Any]:
    """The result of the fastalloc that would be measured now; empty when there is none, or of another."""
    path = _path(kind, interpreter, part)
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text())
    same = document["interpreter"].get("revision") == interpreter.revision
    return document if same else {}


def exists(kind: str, interpreter: Interpreter, part: str = "") -> bool:
    """Whether there is a result of the fastalloc that would be measured now."""
    return bool(kept(kind, interpreter, part))


def forget(kind: str, interpreter: Interpreter) -> None:
    """Delete all parts of a result."""
    for path in RESULTS.glob(f"{kind}-{interpreter.tag}*.json"):
        path.unlink()


def save(
    kind: str, interpreter: Interpreter, content: Mapping[str, object], part: str = ""
) -> Path:
    """Write one result, or a part of one, whole or not at all."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = _path(kind, interpreter, part)
    document = {
        "kind": kind,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "machine": machine(),
        "interpreter": interpreter.to_dict(),
        **content,
    }
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(document, indent=1) + "\n")
    scratch.rename(path)
    return path


def load(kind: str) -> list[dict[str, Any]]:
    """All results of a kind, PGO builds first: they are what production runs."""
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{kind}-*.json"))]
    return sorted(
        documents,
        key=lambda d: (not d["interpreter"]["optimized"], d["interpreter"]["version"]),
    )


def revision(document: Mapping[str, Any]) -> str:
    """The fastalloc that was measured."""
    return str(document["interpreter"].get("revision") or "an unknown commit")


def note(part: str, failure: str) -> None:
    """Keep why a part of the page could not be measured; "" when it could."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "failures.json"
    known = failures()
    known.pop(part, None)
    if failure:
        known[part] = failure
    path.write_text(json.dumps(known))


def failures() -> dict[str, str]:
    """Parts that could not be measured, and why."""
    path = RESULTS / "failures.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}
