"""How cost grows: with threads, depth, live heap, stacks, spans, hours, and the size of what is read."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import results
from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment, prepare
from benchmarks.tables import Table

PLOT = ROOT / "docs" / "images" / "growth.png"


class Axis(NamedTuple):
    """One axis: what grows, over which values, and what is measured (key, name, unit)."""

    name: str
    title: str
    label: str
    values: tuple[int, ...]
    measures: tuple[tuple[str, str], ...]


AXES = (
    Axis(
        "threads",
        "threads",
        "threads",
        (1, 2, 4, 8, 16, 32, 64),
        (("ratio", "CPU, light over none"),),
    ),
    Axis(
        "depth",
        "depth of stacks",
        "frames",
        (1, 5, 10, 20, 50, 100, 200),
        (("ns", "ns a sample, and its free"),),
    ),
    Axis(
        *("live", "live heap", "MiB held"),
        (1, 16, 64, 256, 1024, 4096),
        (
            ("added_ns", "ns added to a pair of 1,000 bytes"),
            ("snapshot_ms", "ms a snapshot"),
            ("samples", "live samples"),
        ),
    ),
    Axis(
        *("sites", "distinct stacks", "stacks"),
        (100, 1_000, 10_000, 100_000),
        (
            ("ns", "ns a new stack"),
            ("resident_kib", "KiB of the recording"),
            ("stacks", "stacks in it"),
            ("swept", "sweeps of its tables"),
            ("lost", "samples lost"),
        ),
    ),
    Axis(
        "spans",
        "spans a second",
        "spans/s",
        (100, 1_000, 10_000, 100_000),
        (("percent", "% of one core"),),
    ),
    Axis(
        *("hours", "hours, fast forward", "hours"),
        (1, 6, 24, 72),
        (
            ("timeline_hours", "hours that the timeline goes back"),
            ("resident_kib", "KiB of the recording"),
        ),
    ),
    Axis(
        *("reading", "size of a recording", "samples"),
        (100, 1_000, 10_000, 100_000),
        (("read_ms", "ms to read"), ("top_ms", "ms for a table"), ("export_ms", "ms to export")),
    ),
)


def measure(interpreter: Interpreter, axis: Axis, scratch: str) -> dict[str, dict[str, float]]:
    """By value, as text: JSON has no other keys."""
    found = {}
    for value in axis.values:
        extra = _fast_clock(scratch, value) if axis.name == "hours" else {}
        done = subprocess.run(
            [
                str(interpreter.python),
                "-m",
                "benchmarks.growth_probes",
                axis.name,
                str(value),
                scratch,
            ],
            cwd=ROOT,
            env=environment(PYTHONHASHSEED="1", **extra),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{axis.name} {value} failed:\n{done.stderr[-2000:]}")
        found[str(value)] = dict(json.loads(done.stdout))
    return found


def _fast_clock(scratch: str, hours: int) -> dict[str, str]:
    library = Path(scratch) / "clock.so"
    if not library.exists():
        source = Path(__file__).parent / "clock.c"
        compiler = shutil.which("cc") or "gcc"
        command = [compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"]
        subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_FACTOR": str(hours * 900)}  # the probe takes 4 s


def table(axis: Axis, documents: list[dict[str, Any]]) -> Table:
    """One row per value."""
    columns = [(d, measure) for d in documents for measure in axis.measures]
    shown = Table(
        f"Growth with {axis.title}",
        [axis.label, *(f"{d['interpreter']['label']}: {name}" for d, (_, name) in columns)],
    )
    skipped = {
        f"{d['interpreter']['label']}: no {value} {axis.label}: {found['skipped']}."
        for d in documents
        for value, found in d["axes"][axis.name].items()
        if "skipped" in found
    }
    shown.note = " ".join(sorted(skipped))
    for value in axis.values:
        row = [f"{value:,}"]
        for document, (key, _) in columns:
            number = document["axes"][axis.name][str(value)].get(key)
            if number is None:
                row.append("-")
            else:
                row.append(f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}")
        shown.rows.append(row)
    return shown


def plot(documents: list[dict[str, Any]], path: Path) -> None:
    """One panel for each measure of each axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(axis, key, name) for axis in AXES for key, name in axis.measures]
    figure, places = pyplot.subplots(
        4, -(-len(panels) // 4), figsize=(14, 13), layout="constrained"
    )
    for place in places.flat[len(panels) :]:
        place.set_axis_off()
    for place, (axis, key, name) in zip(places.flat, panels, strict=False):
        for document in documents:
            found = document["axes"][axis.name]
            values = [value for value in axis.values if key in found[str(value)]]
            numbers = [found[str(value)][key] for value in values]
            place.plot(values, numbers, marker="o", label=document["interpreter"]["label"])
        place.set_xscale("log")
        place.set_xlabel(axis.label)
        place.set_title(name, fontsize=10)
        low, high = place.get_ylim()
        place.set_ylim(min(0.0, low), high * 1.05)
        place.grid(alpha=0.3)
    places.flat[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def show(documents: list[dict[str, Any]]) -> None:
    """The tables, on the terminal."""
    for axis in AXES:
        measured = [d for d in documents if axis.name in d["axes"]]
        if measured:
            table(axis, measured).show()


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    names = [axis.name for axis in AXES]
    parser.add_argument("--axes", nargs="+", choices=names, default=names)
    options = parser.parse_args(arguments)
    whole = options.axes == names
    documents = []
    for python in options.python:
        interpreter = prepare(python, peers=())
        found = {}
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            for axis in AXES:
                if axis.name in options.axes:
                    print(f"{interpreter.label}: {axis.title}", file=sys.stderr, flush=True)
                    found[axis.name] = measure(interpreter, axis, scratch)
        path = results.save("growth" if whole else "growth_part", interpreter, {"axes": found})
        documents.append(json.loads(path.read_text()))
        print(f"results: {path.relative_to(ROOT)}", file=sys.stderr)
    show(documents)
    return 0


if __name__ == "__main__":
    sys.exit(main())
