"""memray's own commands on our files: every number they print is one that went in."""

from __future__ import annotations

import csv
import json
import re
import stat
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from fastalloc.export import ExportError, export_memray, flamegraph, memray_file, reports
from tests.export.story import (
    LOAD,
    MAIN,
    Block,
    Line,
    Story,
    bytes_by_line,
    bytes_by_stack,
    counts_by_line,
    shop,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


@pytest.fixture
def story() -> Story:
    return shop()


@pytest.fixture
def aggregated(story: Story, tmp_path: Path) -> Path:
    path = tmp_path / "aggregated.bin"
    export_memray(story.snapshot(tmp_path), path)
    return path


@pytest.fixture
def all_allocations(story: Story, tmp_path: Path) -> Path:
    path = tmp_path / "all.bin"
    export_memray(story.snapshot(tmp_path), path, kind="all")
    return path


def run_memray(*arguments: object) -> str:
    """Run a command of memray; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "memray", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"COLUMNS": "250", "PATH": "", "PYTHONUTF8": "1", "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def page_data(page: Path) -> Any:
    """What memray packed into a page."""
    found = re.search(r"const packed_data = (.*);$", page.read_text(), re.MULTILINE)
    assert found
    return json.loads(found[1])


def flamegraph_by_line(page: Path) -> tuple[dict[Line, int], dict[Line, int]]:
    """Own bytes and allocations per line in a flame graph: a node's, less its children's."""
    data = page_data(page)
    nodes, strings = data["nodes"], data["strings"]
    amounts: Counter[Line] = Counter()
    counts: Counter[Line] = Counter()
    for node, children in enumerate(nodes["children"]):
        names = (strings[nodes[key][node]] for key in ("function", "filename"))
        function, file = (name.replace("&lt;", "<").replace("&gt;", ">") for name in names)
        line = (function, file, nodes["lineno"][node])
        amounts[line] += nodes["value"][node] - sum(nodes["value"][c] for c in children)
        counts[line] += nodes["n_allocations"][node] - sum(
            nodes["n_allocations"][c] for c in children
        )
    return dict(+amounts), dict(+counts)


def transitive(blocks: Iterable[Block]) -> dict[str, int]:
    """Bytes per function with all it calls, as `summary` names it."""
    sums: Counter[str] = Counter()
    for block in blocks:
        for function, file in {(frame[0], frame[1]) for frame in block.stack}:
            sums[f"{function} at {file}"] += block.weight
    return dict(sums)


def test_flamegraph_shows_the_high_water_mark(
    story: Story, aggregated: Path, tmp_path: Path
) -> None:
    run_memray("flamegraph", "-o", tmp_path / "page.html", aggregated)
    amounts, counts = flamegraph_by_line(tmp_path / "page.html")
    assert amounts == bytes_by_line(story.at_high_water)
    assert counts == counts_by_line(story.at_high_water)


def test_flamegraph_shows_the_live_heap(story: Story, aggregated: Path, tmp_path: Path) -> None:
    printed = run_memray("flamegraph", "--leaks", "-o", tmp_path / "page.html", aggregated)
    assert "pymalloc" not in printed  # no warning that small blocks were not traced
    amounts, counts = flamegraph_by_line(tmp_path / "page.html")
    assert amounts == bytes_by_line(story.live.values())
    assert counts == counts_by_line(story.live.values())


def test_flamegraph_can_tell_threads_apart(aggregated: Path, tmp_path: Path) -> None:
    run_memray("flamegraph", "--split-threads", "-o", tmp_path / "page.html", aggregated)
    data = page_data(tmp_path / "page.html")
    threads = " ".join(data["strings"][number] for number in data["unique_threads"])
    assert "MainThread" in threads
    assert "worker" in threads


@pytest.mark.parametrize("inverted", [(), ("--inverted",)])
def test_flamegraph_over_time(
    story: Story, all_allocations: Path, tmp_path: Path, inverted: tuple[str, ...]
) -> None:
    page = tmp_path / "page.html"
    run_memray("flamegraph", "--temporal", *inverted, "-o", page, all_allocations)
    assert max(page_data(page)["high_water_mark_by_snapshot"]) == sum(
        block.weight for block in story.at_high_water
    )


def test_flamegraph_of_leaks_over_time(story: Story, all_allocations: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run_memray("flamegraph", "--temporal", "--leaks", "-o", page, all_allocations)
    data = page_data(page)
    nodes, strings = data["nodes"], data["strings"]
    never_freed: Counter[str] = Counter()
    for _, freed_before, node, _, amount in data["intervals"]:
        if freed_before is None:
            never_freed[strings[nodes["function"][node]]] += amount
    assert {
        name.replace("&lt;", "<").replace("&gt;", ">"): n for name, n in never_freed.items()
    } == {line[0]: amount for line, amount in bytes_by_line(story.live.values()).items()}


def test_table_shows_the_high_water_mark(story: Story, aggregated: Path, tmp_path: Path) -> None:
    run_memray("table", "-o", tmp_path / "page.html", aggregated)
    rows: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for row in page_data(tmp_path / "page.html"):
        rows[row["stack_trace"]] += row["size"]
        counts[row["stack_trace"]] += row["n_allocations"]
    escape = str.maketrans({"<": "&lt;", ">": "&gt;"})
    expected = {
        f"{function} at {file}:{line}".translate(escape): amount
        for (function, file, line), amount in bytes_by_line(story.at_high_water).items()
    }
    assert rows == expected
    assert sum(counts.values()) == sum(counts_by_line(story.at_high_water).values())


def test_summary_adds_up_what_functions_call(story: Story, aggregated: Path) -> None:
    shown = {}
    for row in run_memray("summary", aggregated).splitlines():
        cells = [cell.strip() for cell in row.split("│")]
        if len(cells) > 3:
            number, unit = re.fullmatch(r"([\d.]+)(\w+)", cells[2]).groups()  # type: ignore[union-attr]
            shown[cells[1]] = round(float(number) * UNITS[unit])
    largest, total = [], 0  # it stops at 95 % of the bytes, which is why large rows come first
    for block in sorted(story.at_high_water, key=lambda block: -block.weight):
        if total < 0.95 * sum(block.weight for block in story.at_high_water):
            largest.append(block)
            total += block.weight
    assert shown == transitive(largest)


def test_stats_add_up(story: Story, all_allocations: Path, tmp_path: Path) -> None:
    run_memray("stats", "--json", "-o", tmp_path / "stats.json", all_allocations)
    stats = json.loads((tmp_path / "stats.json").read_text())
    blocks = [*story.live.values(), *story.freed]
    assert stats["total_num_allocations"] == len(blocks)
    assert stats["total_bytes_allocated"] == sum(block.weight for block in blocks)
    assert stats["metadata"]["peak_memory"] == sum(b.weight for b in story.at_high_water)
    by_line = {f"{f}:{file}:{line}": n for (f, file, line), n in bytes_by_line(blocks).items()}
    assert {row["location"]: row["size"] for row in stats["top_allocations_by_size"]} == by_line
    modules = {row["module"] for row in stats["top_modules_by_allocation_size"]}
    assert "templates" in modules  # found in site-packages of another machine
    assert "json" not in modules  # the standard library counts for its caller


def test_csv_has_every_row(story: Story, aggregated: Path, tmp_path: Path) -> None:
    run_memray("transform", "csv", "-o", tmp_path / "rows.csv", aggregated)
    stacks: Counter[Any] = Counter()
    with (tmp_path / "rows.csv").open() as file:
        for row in csv.DictReader(file):
            frames = (frame.split(";") for frame in row["stack_trace"].split("|"))
            stacks[tuple((name, path, int(line)) for name, path, line in frames)] += int(
                row["size"]
            )
    assert stacks == bytes_by_stack(story.at_high_water)


def test_gprof2dot_has_every_cost(story: Story, aggregated: Path, tmp_path: Path) -> None:
    run_memray("transform", "gprof2dot", "-o", tmp_path / "graph.json", aggregated)
    graph = json.loads((tmp_path / "graph.json").read_text())
    costs: Counter[str] = Counter()
    for occurrence in graph["events"]:
        leaf = graph["functions"][occurrence["callchain"][0]]
        costs[leaf["name"]] += occurrence["cost"][0]
    assert costs == {line[0]: n for line, n in bytes_by_line(story.at_high_water).items()}


def test_tree_has_every_line(story: Story, aggregated: Path) -> None:
    """The tree is drawn on a terminal; what it draws is built by its reporter."""
    import memray
    from memray.reporters.tree import TreeReporter

    records = memray.FileReader(aggregated).get_high_watermark_allocation_records()
    root = TreeReporter.from_snapshot(iter(records), biggest_allocs=200, native_traces=False).data
    assert root.value == sum(block.weight for block in story.at_high_water)
    lines = {child.location: child.value for child in root.children.values()}
    assert lines == {
        MAIN: root.value - 350,
        ("<no Python stack>", "", 0): 350,
    }


# --- fastalloc.export.flamegraph -----------------------------------------------------------


def test_flamegraph_takes_a_snapshot_or_a_recording(story: Story, tmp_path: Path) -> None:
    snapshot = story.snapshot(tmp_path)
    for source in (snapshot, tmp_path / "fastalloc-4242-1700000000000.recording"):
        page = tmp_path / "page.html"
        flamegraph(source, page)
        assert flamegraph_by_line(page)[0] == bytes_by_line(story.at_high_water)
        assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_flamegraph_can_show_leaks_spans_and_time(story: Story, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    flamegraph(
        story.snapshot(tmp_path),
        page,
        leaks=True,
        temporal=True,
        inverted=True,
        split_threads=True,
        frames=("span",),
    )
    assert "GET /" in page_data(page)["strings"]


def test_a_flamegraph_fetches_nothing_from_the_network(story: Story, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    flamegraph(story.snapshot(tmp_path), page)
    assert not re.search(r"<(script|link)[^>]*(src|href)=\"?http", page.read_text())


def test_flamegraph_uses_no_memray_of_the_working_folder(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memray.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    flamegraph(story.snapshot(tmp_path), "page.html")
    assert (tmp_path / "page.html").exists()


def test_without_memray_flamegraph_says_so_in_a_line(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "installed_memray", lambda: None)
    with pytest.raises(ExportError, match=r"^memray is not installed.*pip install memray\)\.$"):
        flamegraph(story.snapshot(tmp_path), tmp_path / "page.html")


def test_memrays_own_failure_is_told_in_a_line(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memray_file, "format_for", lambda version: 12)  # not what is installed
    with pytest.raises(ExportError, match=r"^memray flamegraph failed: [^\n]+$"):
        flamegraph(story.snapshot(tmp_path), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


# --- the file ------------------------------------------------------------------------------


def test_the_file_is_private_and_replaces_an_older_one(story: Story, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "file.bin"
    path.write_text("older")
    path.chmod(0o644)
    export_memray(story.snapshot(tmp_path), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"memray\0")
    assert list(folder.iterdir()) == [path]


def test_a_failed_export_leaves_the_older_file_and_nothing_else(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "file.bin"
    path.write_text("older")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(ExportError, match=r"file\.bin cannot be written: No space left"):
        export_memray(story.snapshot(tmp_path), path)
    assert path.read_text() == "older"
    assert list(folder.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_told(story: Story, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be written: No such file or directory"):
        export_memray(story.snapshot(tmp_path), tmp_path / "none" / "file.bin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "some"}, "'some' is not a kind of memray file; choose from aggregated, all"),
        ({"frames": ("line",)}, "'line' cannot be shown as a frame; choose from span, phase"),
    ],
)
def test_wrong_options_are_told(
    story: Story, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_memray(story.snapshot(tmp_path), tmp_path / "file.bin", **options)


@pytest.mark.parametrize("kind", ["aggregated", "all"])
def test_progress_ends_at_its_total(story: Story, tmp_path: Path, kind: str) -> None:
    seen: list[tuple[int, int]] = []
    export_memray(
        story.snapshot(tmp_path),
        tmp_path / "file.bin",
        kind=kind,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_library_folders_are_seen_in_the_paths_of_frames() -> None:
    from fastalloc.export.stacks import FrameKey

    files = [
        "/usr/lib/python3.11/json/decoder.py",
        "/usr/lib/python3.11/site-packages/a/b.py",
        "/home/u/.local/lib/python3.11/site-packages/c.py",
        LOAD[1],
        "",
    ]
    frames = [FrameKey("f", file, 1) for file in files]
    assert memray_file.library_folders(frames) == (
        "/usr/lib/python3.11",
        ("/usr/lib/python3.11/site-packages", "/home/u/.local/lib/python3.11/site-packages"),
    )
