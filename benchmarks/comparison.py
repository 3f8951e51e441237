"""What `compare` found: the parts joined, and their tables and plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import ratios, results
from benchmarks.interpreters import ROOT
from benchmarks.profilers import PROFILERS, WITHOUT_LIVE_HEAP
from benchmarks.tables import Table
from benchmarks.turns import last_line
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads_native import NATIVE

Document = dict[str, Any]
MIB = 1 << 20
PLOT = ROOT / "docs" / "images" / "compare.png"


def load(kind: str = "compare") -> list[Document]:
    """One document per interpreter, its parts of the newest fastalloc joined; PGO builds first.

    workloads: by name, `seconds` of each profiler by launch and round; memory: lists by profiler.
    failed: by profiler, then workload.
    """
    joined: dict[str, Document] = {}
    every = (part for part in results.load(kind) if "workload" in part)
    for part in sorted(_of_one_revision(every), key=lambda d: (d["launch"], d["workload"])):
        document = joined.setdefault(
            part["interpreter"]["tag"],
            {name: part[name] for name in ("kind", "date", "machine", "interpreter")}
            | {"workloads": {}, "failed": {}},
        )
        document["machine"]["load_average"] = max(
            document["machine"]["load_average"], part["machine"]["load_average"]
        )
        for name, why in part["failed"].items():
            document["failed"].setdefault(name, {})[part["workload"]] = why
        if "seconds" not in part:
            continue
        kept = document["workloads"].setdefault(
            part["workload"],
            {
                "launches": 0,
                "slow_launches": 0,
                "seconds": {},
                "memory": {"start": {}, "peak": {}, "written": {}},
            },
        )
        for name, rounds in part["seconds"].items():
            before = kept["seconds"].setdefault(name, [])
            before += [[] for _ in range(kept["launches"] - len(before))]
            before.append(rounds)
        kept["launches"] += 1
        kept["slow_launches"] += bool(part.get("slow"))
        for which, values in part["memory"].items():
            for name, value in values.items():
                kept["memory"][which].setdefault(name, []).append(value)
    for document in joined.values():
        order = {name: place for place, name in enumerate(WORKLOADS)}
        document["workloads"] = dict(
            sorted(document["workloads"].items(), key=lambda item: order.get(item[0], 99))
        )
    return sorted(joined.values(), key=lambda d: not d["interpreter"]["optimized"])


def _of_one_revision(parts: Iterable[Document]) -> list[Document]:
    """The parts of each interpreter that have its newest part's revision: two revisions make no mean."""
    by_tag: dict[str, list[Document]] = {}
    for part in parts:
        by_tag.setdefault(part["interpreter"]["tag"], []).append(part)
    return [
        part
        for each in by_tag.values()
        for part in each
        if results.revision(part) == results.revision(max(each, key=lambda d: str(d["date"])))
    ]


def missing_workloads(document: Document) -> list[str]:
    """Workloads without a result: with some missing, a mean is not what it says."""
    return [name for name in WORKLOADS if name not in document["workloads"]]


def label(document: Document) -> str:
    """The interpreter's name."""
    return str(document["interpreter"]["label"])


def ratios_of(document: Document) -> dict[str, dict[str, ratios.Ratio]]:
    """By profiler, in the order of PROFILERS, and workload."""
    found: dict[str, dict[str, ratios.Ratio]] = {}
    for profiler in PROFILERS:
        for workload, measured in document["workloads"].items():
            rounds = measured["seconds"].get(profiler)
            if profiler == "none" or rounds is None:
                continue
            ratio = ratios.compare(rounds, ratios.base(measured["seconds"], profiler))
            if ratio:
                found.setdefault(profiler, {})[workload] = ratio
    return found


def means_of(document: Document) -> dict[str, tuple[float, float]]:
    """Geometric mean and standard error by profiler, of those that ran every workload."""
    return {
        name: ratios.geomean_of(each)
        for name, each in ratios_of(document).items()
        if len(each) == len(document["workloads"])
    }


def native_median(document: Document) -> ratios.Ratio | None:
    """Of the NATIVE workloads that whose ratio is the median; None if one of them was not measured."""
    measured = ratios_of(document).get("native", {})
    if not all(name in measured for name in NATIVE):
        return None
    return sorted((measured[name] for name in NATIVE), key=lambda ratio: ratio.mean)[
        len(NATIVE) // 2
    ]


def overview(documents: list[Document]) -> Table:
    """CPU, all workloads: one row per profiler."""
    table = Table(
        "CPU time, geometric mean over the workloads",
        ["", *(label(d) for d in documents)],
        note="± is the standard error: the larger of what rounds and what new launches of the processes tell, by workload. "
        "In brackets: workloads in which the profiler ran, where it was not all of them.",
    )
    found = [ratios_of(document) for document in documents]
    for name, profiler in PROFILERS.items():
        if not any(name in each for each in found):
            continue
        row = [profiler.title]
        for each, document in zip(found, documents, strict=True):
            if name not in each:
                row.append("-")
                continue
            mean, error = ratios.geomean_of(each[name])
            count, all_ = len(each[name]), len(document["workloads"])
            row.append(
                f"{mean:.3f}"
                + f" ± {error:.3f}".replace("inf", "?")
                + (f" ({count} of {all_})" if count < all_ else "")
            )
        table.rows.append(row)
    return table


def by_workload(document: Document) -> Table:
    """CPU, one row per workload."""
    found = ratios_of(document)
    table = Table(
        f"CPU time by workload, {label(document)}",
        ["", *(PROFILERS[name].title for name in found)],
        note=f"Geometric mean of the launches' medians (without the highest and the lowest fifth), {_rounds(found, slow=False)}; of slow profilers, memray and below, {_rounds(found, slow=True)}. "
        "In brackets the quartiles. -: it failed, see below.",
    )
    for workload in document["workloads"]:
        row = [workload]
        for name in found:
            ratio = found[name].get(workload)
            row.append(f"{ratio.mean:.3f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-")
        table.rows.append(row)
    return table


def _rounds(found: dict[str, dict[str, ratios.Ratio]], slow: bool) -> str:
    """How much was measured: "32 to 48 rounds in 2 to 3 launches"."""
    cells = [r for n, each in found.items() if PROFILERS[n].slow == slow for r in each.values()]
    rounds = sorted({cell.rounds for cell in cells}) or [0]
    launches = sorted({len(cell.by_launch) for cell in cells}) or [0]
    return (
        " to ".join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))
        + " rounds in "
        + " to ".join(map(str, dict.fromkeys((launches[0], launches[-1]))))
        + (" launch" if launches == [1] else " launches")
    )


def failures(documents: list[Document]) -> Table:
    """Profilers that failed, and what they said."""
    table = Table("Failed", ["", "workloads", "said last"], note="Each failed run, by profiler.")
    for document in documents:
        for name, by_work in document["failed"].items():
            said = last_line(next(iter(by_work.values()))).replace("|", "/")
            title = f"{label(document)}: {PROFILERS[name].title}"
            table.rows.append([title, ", ".join(sorted(by_work)), said])
    return table


def resident(documents: list[Document]) -> Table:
    """Memory at start and at the peak, and files."""
    table = Table(
        "Resident memory added, and files written, MiB",
        [
            "",
            *(f"{label(d)}, {w}" for d in documents for w in ("at start", "at the peak", "files")),
        ],
        note="Median over the workloads. Code and bytecode of what the profiler imports is part of it. Files: "
        "blocks on disk, while running or after the end, whichever is more; slow profilers did less work. At start: "
        "-, where the profiler runs before the program does.",
    )
    for name, profiler in PROFILERS.items():
        row = [profiler.title]
        for document in documents:
            for which in ("start", "peak", "written"):
                added = [
                    statistics.median(memory[which][name])
                    - statistics.median(memory[which]["none"])
                    for memory in (m["memory"] for m in document["workloads"].values())
                    if name in memory[which] and "none" in memory[which]
                ]
                row.append(f"{statistics.median(added) / MIB:z.1f}" if added else "-")
        if name != "none" and any(cell != "-" for cell in row[1:]):
            table.rows.append(row)
    return table


def dearer(document: Document, workload: str, mine: str, other: str) -> bool | None:
    """Whether one profiler is dearer than another by more than noise; None where it is so by less."""
    seconds = document["workloads"][workload]["seconds"]
    side_by_side = ratios.compare(seconds[mine], seconds[other])
    if side_by_side:
        above, sure = side_by_side.mean > 1, side_by_side.above(1)
    else:  # in launches of their own
        ours, theirs = (ratios.compare(seconds[n], ratios.base(seconds, n)) for n in (mine, other))
        assert ours and theirs
        above = ours.mean > theirs.mean
        sure = ours.mean - theirs.mean > 2 * math.hypot(ours.error, theirs.error)
    return sure if sure or not above else None


MARKS = {True: " **!**", None: " (!)", False: ""}
MARKED = "**!**: it is cheaper than light by more than two standard errors; (!): by less, which may be noise."


def firsts(documents: list[Document]) -> Table:
    """Where another tool that sees the live heap by stack is cheaper than fastalloc light."""
    rivals = [
        name
        for name, profiler in PROFILERS.items()
        if (profiler.package or name.startswith("tracemalloc")) and name not in WITHOUT_LIVE_HEAP
    ]
    table = Table(
        "The cheapest of the others, by workload",
        ["", *(c for d in documents for c in (f"{label(d)}: light", "the cheapest of the others"))],
        note=f"Of those that see the live heap by stack. {MARKED}",
    )
    found = [ratios_of(document) for document in documents]
    for workload in dict.fromkeys(name for d in documents for name in d["workloads"]):
        row = [workload]
        for each, document in zip(found, documents, strict=True):
            light = each.get("light", {}).get(workload)
            others = [(each[n][workload].mean, n) for n in rivals if workload in each.get(n, {})]
            if not light or not others:
                row += ["-", "-"]
                continue
            least, name = min(others)
            mark = MARKS[dearer(document, workload, "light", name)]
            row += [f"{light.mean:.3f}", f"{least:.3f} {PROFILERS[name].title}{mark}"]
        table.rows.append(row)
    return table


def plot(documents: list[Document], path: Path) -> None:
    """Added CPU time by profiler, a bar per interpreter, logarithmic; pale where workloads are missing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [ratios_of(document) for document in documents]
    names = [n for n in PROFILERS if n != "control" and any(n in each for each in found)]
    figure, place = pyplot.subplots(figsize=(9, 0.36 * len(names) + 1.4), layout="constrained")
    high = 0.8 / max(1, len(documents))
    for number, (document, each) in enumerate(zip(documents, found, strict=True)):
        shown = [(row, ratios.geomean_of(each[n])[0]) for row, n in enumerate(names) if n in each]
        counts = [len(each[n]) for n in names if n in each]
        percents = [max(0.05, 100 * (mean - 1)) for _, mean in shown]
        rows = [row + (number - (len(documents) - 1) / 2) * high for row, _ in shown]
        bars = place.barh(rows, percents, height=high, label=label(document))
        all_ = len(document["workloads"])
        for bar, count in zip(bars, counts, strict=True):
            bar.set_alpha(1 if count == all_ else 0.35)
        texts = [
            f"{100 * (mean - 1):z.{0 if mean > 1.1 else 1}f} %"
            + (f", {count} of {all_} workloads only" if count < all_ else "")
            for (_, mean), count in zip(shown, counts, strict=True)
        ]
        place.bar_label(bars, texts, padding=3, fontsize=7)
    place.set_yticks(range(len(names)), [PROFILERS[name].title for name in names], fontsize=8)
    place.invert_yaxis()
    place.set_xscale("log")
    low, most = place.get_xlim()
    place.set_xlim(max(low, 0.05), 10 ** (math.log10(most) + 0.4))
    place.set_ylim(len(names) + 0.6, -0.8)  # room for the legend below the last bar
    place.set_xlabel("CPU time added, %, geometric mean over the workloads (logarithmic)")
    place.grid(axis="x", alpha=0.3)
    place.legend(fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def show(documents: list[Document]) -> None:
    """The tables, on the terminal."""
    for document in documents:
        by_workload(document).show()
    overview(documents).show()
    firsts(documents).show()
    resident(documents).show()
    if failures(documents).rows:
        failures(documents).show()
