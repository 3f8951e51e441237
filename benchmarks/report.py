"""docs/benchmarks.md: what the last runs found, written by this program and nobody else."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import (
    accuracy,
    comparison,
    floors,
    growth,
    layers,
    native_accuracy,
    quotes,
    ratios,
    results,
    service_counts,
    services,
    startup,
    targets,
    trackers,
)
from benchmarks.comparison import label
from benchmarks.earlier import Earlier
from benchmarks.profilers import PROFILERS
from benchmarks.tables import Table
from benchmarks.turns import last_line
from benchmarks.workloads import WORKLOADS

Document = dict[str, Any]
MIB = 1 << 20
COMPARED = "Bars: CPU time that each profiler adds, on each build of CPython"
GROWTH = "Plots of the tables below: what grows is on the horizontal axis, logarithmic"

INTRODUCTION = """\
# Benchmarks

Written by `make bench-docs`; do not edit. [benchmarks/README.md](../benchmarks/README.md)
says how to run them. Builds with profile-guided optimization (PGO) come first: they are what production runs, and
there hooks cost more, since replacing an allocator undoes what the optimizer knew about it.

How to read the times: each number is CPU time over that of no profiler (the mean of two such processes), in rounds that
lie side by side. Garbage is collected before each, or a full collection would be in one round and not in the next. Where
the heap of a process lies is drawn by lot, in part anew before each round, since what a profiler imports moves it, and its
place alone makes some per cent. "none, again" is the second process without a profiler over the first: how far it is from 1 is the noise, and no
smaller difference means anything. Instruction counts (valgrind) have next to no noise; they say what is done, not how
long it takes.

Beside each other, fastalloc, ddtrace and Pyroscope keep 64 frames of a stack, and take a sample every 512 KiB where
nothing else is said; fastalloc runs without its limit on its own overhead (`overhead_percent=0`), which by default is 1.

"In spans" has a span around the work, and in django_request and fastapi_request the middleware: a span and phases for each
request. The other rows of fastalloc are without, as the profilers beside them are.
"""


def pairs(documents: list[Document]) -> Table:
    """Instructions per allocation and free."""
    shown = ("none", "standby", "light", "aggressive", "forward_all", "ddtrace")
    titles = {"forward_all": "forward all"}
    table = Table(
        "Instructions added to one allocation and free",
        ["", *(f"{label(d)}, {titles.get(part, part)}" for d in documents for part in shown)],
        note="In all for none, added for the others. Samples are in it, one every 512 KiB (aggressive: 64 KiB). Forward "
        "all: hooks on everything that only forward.",
    )
    for case in dict.fromkeys(case for document in documents for case in document["pairs"]):
        row = [case]
        for document in documents:
            each = document["pairs"].get(case, {})
            for part in shown:
                if part not in each or "none" not in each:
                    row.append("-")
                elif part == "none":
                    row.append(f"{each['none']:.0f}")
                else:
                    row.append(f"{each[part] - each['none']:+.1f}")
        table.rows.append(row)
    return table


def whole(documents: list[Document]) -> Table:
    """Instructions of whole workloads."""
    documents = [document for document in documents if document["workloads"]]
    counted = {name for d in documents for each in d["workloads"].values() for name in each}
    names = [(d, name) for d in documents for name in PROFILERS if name in counted - {"none"}]
    workloads = [name for name in WORKLOADS if any(name in d["workloads"] for d in documents)]
    table = Table(
        "Instructions of whole workloads, over those of none",
        ["", *(f"{label(d)}, {PROFILERS[profiler].title}" for d, profiler in names)],
        note=f"{len(workloads)} of {len(WORKLOADS)} workloads; the mean, where each of these was counted.",
    )
    columns: list[list[float | None]] = []
    for document, profiler in names:
        rows = [document["workloads"].get(workload, {}) for workload in workloads]
        columns.append(
            [
                each[profiler] / each["none"] if profiler in each and "none" in each else None
                for each in rows
            ]
        )
    for workload, *values in zip(workloads, *columns, strict=True):
        table.rows.append([workload, *("-" if v is None else f"{v:.4f}" for v in values)])
    if workloads:
        complete = [[v for v in column if v is not None] for column in columns]
        means = (ratios.geomean(v) if len(v) == len(workloads) else None for v in complete)
        table.rows.append(
            ["geometric mean", *("-" if mean is None else f"{mean:.4f}" for mean in means)]
        )
    return table


OVERHEADS = (
    ("import, ms", "start", "light", "import_ms", 1),
    ("start, light, ms", "start", "light", "start_ms", 1),
    ("import, the fastest, ms", "start", "light", "fastest_import_ms", 1),
    ("start, light, the fastest, ms", "start", "light", "fastest_start_ms", 1),
    ("import and start, light, CPU ms", "start", "light", "cpu_ms", 1),
    ("import and start, standby, CPU ms", "start", "standby", "cpu_ms", 1),
    ("import alone, resident KiB of its own", "start", "disabled", "own_bytes", 1024),
    ("import and start, light, resident KiB of its own", "start", "light", "own_bytes", 1024),
    ("... with the interpreter's pages that it touched", "start", "light", "rss_bytes", 1024),
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
    ("look at resident memory, small process, ms", "looks", "resident", "", 1),
    ("look with a million tuples, ms", "looks", "resident_objects", "", 1),
    ("look with 200,000 free pieces of malloc, ms", "looks", "resident_pieces", "", 1),
    ("look at all loaded objects, native, ms", "looks", "loaded", "", 1),
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
            found = document.get(probe, {}).get(first)
            value = found.get(second) if second and found else found
            row.append(_number(value / unit) if value is not None else "-")
        table.rows.append(row)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def machine_of(document: Document) -> str:
    """The line that says what it was measured on."""
    machine = document["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, {machine['libc']}."
    )


def conditions(documents: list[Document], earlier: Earlier) -> str:
    """Machine, versions, dates."""
    lines = ["## Conditions", "", machine_of(documents[0]), ""]
    lines += earlier.conditions({str(document["kind"]) for document in documents})
    for document in documents:
        interpreter = document["interpreter"]
        packages = ", ".join(f"{name} {v}" for name, v in sorted(interpreter["packages"].items()))
        lines.append(
            f"- {document['kind']}, {document['date']}: CPython {interpreter['label']}, "
            f"{interpreter['compiler']}; fastalloc at {results.revision(document)}; {packages}; "
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
        for table in (layers.sample(documents), layers.native_sample(documents)):
            if table.rows:
                table.show()
        if whole(documents).rows:
            whole(documents).show()
    else:
        overheads(documents).show()


def aged(documents: list[Document], newest: str) -> str:
    """What to say of results that are of another fastalloc than the newest of the page; "" if none is."""
    old = dict.fromkeys(
        f"{results.revision(d)} ({label(d)}, {d['date']})"
        for d in documents
        if results.revision(d) != newest
    )
    if not old:
        return ""
    return f"**Older**: measured with fastalloc at {', '.join(old)}; the newest of this page is {newest}.\n"


def page() -> str:
    """All of docs/benchmarks.md."""
    compared, counted = comparison.load(), results.load("instructions")
    others, known = results.load("overheads"), results.load("accuracy")
    started, tracked, grown = (results.load(kind) for kind in ("startup", "trackers", "growth"))
    native, served = results.load("native-accuracy"), results.load("services")
    requests = results.load("service-counts")
    every = [
        *compared,
        *started,
        *known,
        *native,
        *served,
        *requests,
        *counted,
        *others,
        *tracked,
        *grown,
    ]
    newest = results.revision(max(every, key=lambda d: str(d["date"]))) if every else ""
    parts = [INTRODUCTION]
    standing = results.DOCS.read_text() if results.DOCS.exists() else ""
    earlier = Earlier(standing, machine_of(every[0]))

    def section(title: str, documents: list[Document]) -> None:
        parts.extend([f"## {title}\n", aged(documents, newest)])

    def add(*tables: Table) -> None:
        parts.extend(each.markdown() for each in tables if each.rows)

    if compared or counted:
        parts.append(aged([*compared, *counted], newest))
        reached = targets.table(compared, counted)
        reached.rows += earlier.targets("CPU") if not compared else []
        reached.rows += earlier.targets("instructions") if not counted else []
        add(reached)
    else:
        parts.append(earlier.head())
    if compared:
        comparison.plot(compared, comparison.PLOT)
        section("Beside other profilers", compared)
        for document in compared:
            if lacking := comparison.missing_workloads(document):
                parts.append(f"**Incomplete**: {label(document)} lacks {', '.join(lacking)}.\n")
        add(comparison.overview(compared))
        parts.append(f"![{COMPARED}](images/{comparison.PLOT.name})\n")
        add(comparison.firsts(compared), comparison.resident(compared))
        add(*(comparison.by_workload(document) for document in compared))
        add(comparison.failures(compared))
    else:
        parts.append(earlier.section("Beside other profilers"))
    layers_kept = earlier.section("Layers")
    if (compared and counted) or ((compared or counted) and not layers_kept):
        section("Layers", [*compared, *counted, *tracked])
        add(layers.table(compared, counted, tracked), layers.sample(counted))
        add(layers.native_sample(counted))
        add(floors.table(compared, counted))
    else:
        parts.append(layers_kept)
    if known:
        section("The answer against the truth", known)
        add(accuracy.table(known))
    else:
        parts.append(earlier.section("The answer against the truth"))
    if native:
        section("Native memory", native)
        add(native_accuracy.table(native))
    else:
        parts.append(earlier.section("Native memory"))
    if counted:
        section("Instructions", counted)
        add(pairs(counted), whole(counted))
    else:
        parts.append(earlier.section("Instructions"))
    if served:
        section("Services", served)
        add(services.table(served))
    else:
        parts.append(earlier.section("Services"))
    if requests:
        section("Requests of services", requests)
        add(service_counts.table(requests))
    else:
        parts.append(earlier.section("Requests of services"))
    if started or others or tracked:
        section("Other costs", [*started, *others, *tracked])
        add(*([startup.table(started)] if started else []))
        add(*([overheads(others)] if others else []))
        add(*([trackers.table(tracked)] if tracked else []))
    else:
        parts.append(earlier.section("Other costs"))
    if grown:
        growth.plot(grown, growth.PLOT)
        section("How cost grows", grown)
        parts += [f"![{GROWTH}](images/{growth.PLOT.name})\n"]
        add(*(growth.table(axis, grown) for axis in growth.AXES))
    else:
        parts.append(earlier.section("How cost grows"))
    told = [f"- {name}: {why}" for name, why in results.failures().items()]
    for document in counted:
        told += [
            f"- instructions, {label(document)}: {name}: {last_line(why)}"
            for name, why in document.get("failed", {}).items()
        ]
    if told:
        parts += ["## Not measured, or not well\n", *told, "\n"]
    parts.append(conditions(every, earlier))
    return "\n".join(part for part in parts if part)


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
    print(f"written: docs/{results.DOCS.name}")
    if not quotes.write(comparison.load()):
        print("README.md stays as it is: not every workload was compared, in two launches or more")
    return 0
