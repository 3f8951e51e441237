"""docs/benchmarks.md: what the last runs found, written by this program and nobody else."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import accuracy, comparison, growth, quotes, ratios, results, startup
from benchmarks.comparison import label
from benchmarks.profilers import PROFILERS
from benchmarks.tables import Table

Document = dict[str, Any]
MIB = 1 << 20
COMPARED = "Bars: CPU time that each profiler adds, on each build of CPython"
GROWTH = "Plots of the tables below: what grows is on the horizontal axis, logarithmic"

INTRODUCTION = """\
# Benchmarks

Written by `make bench-docs`; do not edit. [benchmarks/README.md](../benchmarks/README.md)
says how to run them. Builds with profile-guided optimization (PGO) come first: they are what production runs, and
there hooks cost more, since replacing an allocator undoes what the optimizer knew about it.

How to read the times: each number is CPU time over that of no profiler, in rounds that lie side by side. "none,
again" is a second process without a profiler: how far it is from 1 is the noise, and no smaller difference means
anything. Instruction counts (valgrind) have next to no noise; they say what is done, not how long it takes.
"""


def pairs(documents: list[Document]) -> Table:
    """Instructions per allocation and free."""
    table = Table(
        "Instructions added to one allocation and free",
        [
            "",
            *(f"{label(d)}, {part}" for d in documents for part in ("none", "standby", "light")),
        ],
        note="In all for none, added for the others. Samples are in it, one every 512 KiB.",
    )
    for case in documents[0]["pairs"] if documents else ():
        row = [case]
        for document in documents:
            by_mode = document["pairs"][case]
            row.append(f"{by_mode['none']:.0f}")
            row += [f"{by_mode[mode] - by_mode['none']:+.1f}" for mode in ("standby", "light")]
        table.rows.append(row)
    return table


def whole(documents: list[Document]) -> Table:
    """Instructions of whole workloads."""
    documents = [document for document in documents if document["workloads"]]
    names = [
        (document, profiler)
        for document in documents
        for profiler in next(iter(document["workloads"].values()))
        if profiler != "none"
    ]
    table = Table(
        "Instructions of whole workloads, over those of none",
        ["", *(f"{label(d)}, {PROFILERS[profiler].title}" for d, profiler in names)],
    )
    workloads = list(documents[0]["workloads"]) if documents else []

    def ratio(document: Document, profiler: str, workload: str) -> float:
        counts = document["workloads"][workload]
        return float(counts[profiler] / counts["none"])

    for workload in workloads:
        table.rows.append([workload, *(f"{ratio(d, p, workload):.4f}" for d, p in names)])
    if workloads:
        means = (ratios.geomean(ratio(d, p, w) for w in workloads) for d, p in names)
        table.rows.append(["geometric mean", *(f"{mean:.4f}" for mean in means)])
    return table


OVERHEADS = (
    ("import, ms", "start", "light", "import_ms", 1),
    ("start, light, ms", "start", "light", "start_ms", 1),
    ("import, the fastest, ms", "start", "light", "fastest_import_ms", 1),
    ("start, light, the fastest, ms", "start", "light", "fastest_start_ms", 1),
    ("import and start, light, CPU ms", "start", "light", "cpu_ms", 1),
    ("import and start, standby, CPU ms", "start", "standby", "cpu_ms", 1),
    ("import alone, resident KiB", "start", "disabled", "rss_bytes", 1024),
    ("import and start, light, resident KiB", "start", "light", "rss_bytes", 1024),
    ("modules imported", "start", "light", "modules", 1),
    ("span, enter and exit, ns", "scopes", "light", "a_span", 1),
    ("span with two attributes, ns", "scopes", "light", "a_span_with_attributes", 1),
    ("span while disabled, ns", "scopes", "disabled", "a_span", 1),
    ("phase, enter and exit, ns", "scopes", "light", "a_phase", 1),
    ("checkpoint, ns", "scopes", "light", "a_checkpoint", 1),
    ("one sample, 10 frames deep, ns", "sample", "depth 10", "", 1),
    ("one sample, 30 frames deep, ns", "sample", "depth 30", "", 1),
    ("one sample, 100 frames deep, ns", "sample", "depth 100", "", 1),
    ("fork, none, ms in the parent", "fork", "none", "parent_ms", 1),
    ("fork, light, ms in the parent", "fork", "light", "parent_ms", 1),
    ("fork until the child is gone, none, ms", "fork", "none", "until_child_gone_ms", 1),
    ("fork until the child is gone, light, ms", "fork", "light", "until_child_gone_ms", 1),
    ("Django app: requests served", "memory", "light", "requests", 1),
    ("Django app: samples taken", "memory", "light", "samples", 1),
    ("Django app: recording, resident KiB", "memory", "light", "recording_bytes", 1024),
    ("Django app: private tables, resident KiB", "memory", "light", "tables_bytes", 1024),
    ("Django app: the core's own data, KiB", "memory", "light", "data_bytes", 1024),
    ("Django app: RSS in light mode, MiB", "memory", "light", "rss_bytes", MIB),
    ("Django app: RSS with none, MiB", "memory", "none", "rss_bytes", MIB),
)


def overheads(documents: list[Document]) -> Table:
    """Everything besides allocations."""
    table = Table("Besides allocations", ["", *(label(document) for document in documents)])
    for title, probe, first, second, unit in OVERHEADS:
        row = [title]
        for document in documents:
            value = document[probe][first][second] if second else document[probe][first]
            value /= unit
            row.append(f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}")
        table.rows.append(row)
    return table


def targets(compared: list[Document], counted: list[Document]) -> Table:
    """What was promised, and what was found."""
    table = Table(
        "Targets",
        ["", "target", "found", ""],
        note='"met?": over it, but by less than two standard errors.',
    )

    def add(what: str, limit: float, found: float, error: float = 0, digits: int = 3) -> None:
        met = "met" if found <= limit else "met?" if found - 2 * error <= limit else "**missed**"
        shown = f"{found:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")
        table.rows.append([what, f"at most {limit}", shown, met])

    for document in compared:
        means = comparison.means_of(document)
        if "light" not in means:
            continue
        limit = 1.03 if document["interpreter"]["optimized"] else 1.015
        add(f"{label(document)}: light, CPU", limit, *means["light"])
        if "standby" in means:
            add(f"{label(document)}: standby, CPU", 1.003, *means["standby"])
        if "ddtrace" in means:
            share = (means["light"][0] - 1) / (means["ddtrace"][0] - 1)
            add(f"{label(document)}: light's added CPU over ddtrace's", 0.5, share, digits=2)
    for document in counted:
        by_mode = document["pairs"]["OBJ malloc(48) + free"]
        limit = 20 if document["interpreter"]["optimized"] else 12
        added = by_mode["light"] - by_mode["none"]
        add(f"{label(document)}: instructions added to a small pair", limit, added, digits=1)
        if document["workloads"]:
            counts = document["workloads"].values()
            counted_means = {
                name: ratios.geomean(each[name] / each["none"] for each in counts)
                for name in ("standby", "light", "ddtrace")
                if all(name in each for each in counts)
            }
            limit = 1.03 if document["interpreter"]["optimized"] else 1.015
            add(
                f"{label(document)}: light, instructions of the workloads",
                limit,
                counted_means["light"],
            )
            add(f"{label(document)}: standby, likewise", 1.003, counted_means["standby"])
            if "ddtrace" in counted_means:
                share = (counted_means["light"] - 1) / (counted_means["ddtrace"] - 1)
                add(f"{label(document)}: light's added over ddtrace's", 0.5, share, digits=2)
    return table


def conditions(documents: list[Document]) -> str:
    """Machine, versions, dates."""
    machine = documents[0]["machine"]
    lines = [
        "## Conditions",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, {machine['libc']}.",
        "",
    ]
    for document in documents:
        interpreter = document["interpreter"]
        packages = ", ".join(f"{name} {v}" for name, v in sorted(interpreter["packages"].items()))
        lines.append(
            f"- {document['kind']}, {document['date']}: CPython {interpreter['label']}, "
            f"{interpreter['compiler']}; fastalloc at {interpreter.get('revision') or 'an unknown commit'}; {packages}; "
            f"load average {document['machine']['load_average']}."
        )
    return "\n".join([*lines, ""])


def show(kind: str, tag: str = "") -> None:
    """The tables of one kind of result, of all interpreters or one, on the terminal."""
    documents = [d for d in results.load(kind) if tag in ("", d["interpreter"]["tag"])]
    if not documents:
        return
    if kind == "instructions":
        pairs(documents).show()
        if whole(documents).rows:
            whole(documents).show()
    else:
        overheads(documents).show()


def page() -> str:
    """All of docs/benchmarks.md."""
    compared, counted = comparison.load(), results.load("instructions")
    others = results.load("overheads")
    parts = [INTRODUCTION]
    if compared or counted:
        parts += [targets(compared, counted).markdown()]
    if compared:
        comparison.plot(compared, comparison.PLOT)
        parts += ["## Beside other profilers\n", comparison.overview(compared).markdown()]
        parts += [f"![{COMPARED}](images/{comparison.PLOT.name})\n"]
        parts += [comparison.firsts(compared).markdown()]
        parts += [comparison.resident(compared).markdown()]
        parts += [comparison.by_workload(document).markdown() for document in compared]
        if comparison.failures(compared).rows:
            parts += [comparison.failures(compared).markdown()]
    known = results.load("accuracy")
    if known:
        parts += ["## The answer against the truth\n", accuracy.table(known).markdown()]
    if counted:
        parts += ["## Instructions\n", pairs(counted).markdown()]
        if whole(counted).rows:
            parts += [whole(counted).markdown()]
    started = results.load("startup")
    if started or others:
        parts += ["## Other costs\n"]
    if started:
        parts += [startup.table(started).markdown()]
    if others:
        parts += [overheads(others).markdown()]
    grown = results.load("growth")
    if grown:
        growth.plot(grown, growth.PLOT)
        parts += ["## How cost grows\n", f"![{GROWTH}](images/{growth.PLOT.name})\n"]
        parts += [growth.table(axis, grown).markdown() for axis in growth.AXES]
    failures = results.failures()
    if failures:
        told = [f"- {name}: {why}" for name, why in failures.items()]
        parts += ["## Not measured\n", *told, ""]
    parts += [conditions([*compared, *started, *known, *counted, *others, *grown])]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    argparse.ArgumentParser(
        prog="python -m benchmarks report",
        description="Write docs/benchmarks.md, and what README.md quotes, from the results so far.",
    ).parse_args(arguments)
    if not any(results.RESULTS.glob("*.json")):
        print("no results yet; run one of the other commands first")
        return 2
    results.DOCS.write_text(page())
    quotes.write(comparison.load())
    print(f"written: docs/{results.DOCS.name}")
    return 0
