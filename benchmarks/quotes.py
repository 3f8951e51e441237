"""What README.md quotes of docs/benchmarks.md: written between two marks by `report`, and by nobody else.

docs/benchmarks.json keeps the figures; tests/benchmarks/test_quotes.py compares README with it, and it with the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.comparison import missing_workloads, overview, resident
from benchmarks.interpreters import ROOT
from benchmarks.profilers import PROFILERS
from benchmarks.tables import Table

README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "benchmarks.json"
BEGIN, END = "<!-- written by `make bench-docs` -->", "<!-- end -->"
QUOTED = (
    *("control", "standby", "light", "spans", "aggressive", "ddtrace", "pyroscope", "memray"),
    *("memray_python", "scalene", "fil", "tracemalloc"),
)
CPU = "CPU time over none"
MEMORY = "Memory added, MiB"


def figures(compared: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures, as the page shows them: texts by title."""
    if not compared:
        return {}
    titles = {PROFILERS[name].title for name in QUOTED}
    times, memory = overview(compared), resident(compared)
    labels = list(times.columns[1:])
    peaks = [number for number, column in enumerate(memory.columns) if "at the peak" in column]
    return {
        "labels": labels,
        "date": compared[0]["date"],
        "revision": compared[0]["interpreter"].get("revision", ""),
        "workloads": len(compared[0]["workloads"]),
        CPU: {row[0]: list(row[1:]) for row in times.rows if row[0] in titles},
        MEMORY: {row[0]: [row[n] for n in peaks] for row in memory.rows if row[0] in titles},
    }


def block(found: dict[str, Any]) -> str:
    """What stands in README between the marks."""
    if not found:
        return ""
    labels = found["labels"]
    heads = [f"{what}, {label}" for label in labels for what in ("CPU", "MiB")]
    table = Table("", ["", *heads])
    for title, times in found[CPU].items():
        memory = found[MEMORY].get(title, ["-"] * len(labels))
        cells = [cell for pair in zip(times, memory, strict=True) for cell in pair]
        table.rows.append([title, *cells])
    text = table.markdown().partition("\n\n")[2]
    return (
        f"CPU time over that of no profiler, geometric mean over {found['workloads']} workloads, and resident memory "
        f"added at their peak ([all of it](docs/benchmarks.md), {found['date'][:10]}, at {found['revision']}):\n\n{text}"
    )


def quotable(compared: list[dict[str, Any]]) -> bool:
    """Whether it covers every workload on every build, in new processes more than once: README quotes nothing less."""
    return bool(compared) and all(
        not missing_workloads(document)
        and all(
            each["launches"] - each["slow_launches"] > 1 for each in document["workloads"].values()
        )
        for document in compared
    )


def write(compared: list[dict[str, Any]]) -> bool:
    """Keep the figures, and put them into README, if they may be quoted; whether they were."""
    if not quotable(compared):
        return False
    found = figures(compared)
    FIGURES.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    README.write_text(replaced(README.read_text(), block(found)))
    return True


def kept(path: Path = FIGURES) -> dict[str, Any]:
    """The figures of the last run; empty before the first."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def replaced(text: str, new: str) -> str:
    """README's text with another block."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{new}{END}{after}"


def quoted(text: str) -> str:
    """The block that README's text has."""
    return text.split(BEGIN)[1].split(END)[0].removeprefix("\n")
