"""Every format, opened by its memray: installed from wheels into a venv, kept for next time."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, Any

import pytest

from fastalloc.export import export_memray
from tests.export.story import (
    Line,
    Story,
    bytes_by_line,
    bytes_by_thread,
    counts_by_line,
    shop,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

RELEASES = {
    "1.7.0": 10,
    "1.8.1": 10,
    "1.10.0": 10,
    "1.11.0": 11,
    "1.17.2": 11,
    "1.18.0": 11,
    "1.19.0": 12,  # withdrawn, still to be had
    "1.19.1": 12,
    "1.19.3": 12,
    "1.20.0": 13,
}

unavailable: dict[str, str] = {}
"""Why a release cannot be had, so that pip is asked once."""

READ = """
import json, sys, memray
reader = memray.FileReader(sys.argv[1])
def rows(records):
    return [[r.thread_name, r.allocator, r.n_allocations, r.size, r.stack_trace()] for r in records]
answer = {
    "peak": reader.metadata.peak_memory,
    "pid": reader.metadata.pid,
    "allocator": reader.metadata.python_allocator,
    "live": rows(reader.get_leaked_allocation_records(merge_threads=False)),
    "high_water": rows(reader.get_high_watermark_allocation_records(merge_threads=False)),
    "merged": rows(reader.get_high_watermark_allocation_records(merge_threads=True)),
    "memory": [[m.time, m.rss, m.heap] for m in reader.get_memory_snapshots()],
}
print(json.dumps(answer))
"""


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def python(release: str, request: pytest.FixtureRequest) -> Path:
    """The interpreter of a venv with this release; skips where it cannot be had."""
    folder: Path = request.config.cache.mkdir("memray-releases") / release
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if release in unavailable:
        pytest.skip(unavailable[release])
    if not ready.exists():
        venv.create(folder, with_pip=False, clear=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        wanted = ["--only-binary", ":all:", f"memray=={release}"]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            unavailable[release] = f"pip cannot get memray {release} here: {' '.join(why)}"
            pytest.skip(unavailable[release])
        ready.touch()
    return python


def by_line(rows: list[Any], column: int) -> dict[Line, int]:
    sums: dict[Line, int] = {}
    for row in rows:
        line = tuple(row[4][0])
        sums[line] = sums.get(line, 0) + row[column]
    return sums


def by_thread(rows: list[Any], story: Story) -> dict[str, int]:
    """Bytes by thread; releases before 1.12 say "0x4d (worker)"."""
    sums: dict[str, int] = {}
    names = {block.thread for block in (*story.live.values(), *story.freed)}
    for shown, _, _, size, _ in rows:
        (name,) = (name for name in names if shown == name or shown.endswith(f"({name})"))
        sums[name] = sums.get(name, 0) + size
    return sums


@pytest.mark.parametrize("kind", ["aggregated", "all"])
def test_each_release_reads_every_number(
    python: Path, release: str, kind: str, tmp_path: Path
) -> None:
    story = shop()
    file = tmp_path / f"{kind}.bin"
    export_memray(story.snapshot(tmp_path), file, kind=kind, memray_version=release)
    assert file.read_bytes()[7] == RELEASES[release]
    done = subprocess.run([python, "-c", READ, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)

    live, high_water = story.live.values(), story.at_high_water
    assert answer["peak"] == sum(block.weight for block in high_water)
    assert answer["pid"] == 4242
    assert answer["allocator"] == "pymalloc"
    assert by_line(answer["live"], 3) == bytes_by_line(live)
    assert by_line(answer["high_water"], 3) == bytes_by_line(high_water)
    assert by_line(answer["merged"], 3) == bytes_by_line(high_water)
    assert by_thread(answer["live"], story) == bytes_by_thread(live)
    assert by_thread(answer["high_water"], story) == bytes_by_thread(high_water)
    assert [tuple(point) for point in answer["memory"]] == story.memory_points
    if kind == "aggregated":
        assert by_line(answer["live"], 2) == counts_by_line(live)
        assert by_line(answer["high_water"], 2) == counts_by_line(high_water)
        assert by_line(answer["merged"], 2) == counts_by_line(high_water)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("aggregated", ["flamegraph", "--leaks", "-o", "{out}"]),
        ("aggregated", ["table", "-o", "{out}"]),
        ("aggregated", ["summary"]),
        ("aggregated", ["transform", "csv", "-o", "{out}"]),
        ("all", ["flamegraph", "-o", "{out}"]),
        ("all", ["stats"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[:2]),
)
def test_each_release_makes_its_reports(
    python: Path, release: str, kind: str, command: list[str], tmp_path: Path
) -> None:
    file, out = tmp_path / f"{kind}.bin", tmp_path / "out"
    export_memray(shop().snapshot(tmp_path), file, kind=kind, memray_version=release)
    arguments = [argument.format(out=out) for argument in command]
    done = subprocess.run(
        [python, "-m", "memray", *arguments, file],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size if out.name in str(arguments) and "-o" in arguments else done.stdout


def test_a_memray_of_another_format_refuses_the_file(
    python: Path, release: str, tmp_path: Path
) -> None:
    """Why `memray_version` matters; fails when a release learns to read others' files."""
    other = "1.20.0" if RELEASES[release] != 13 else "1.19.3"
    file = tmp_path / "file.bin"
    export_memray(shop().snapshot(tmp_path), file, memray_version=other)
    done = subprocess.run([python, "-c", READ, file], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "version" in done.stderr
