"""The tables and plots of how cost grows, made of real measurements of the cheapest axis."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.growth import AXES
from benchmarks.interpreters import ROOT

from benchmarks import growth


@pytest.mark.parametrize("axis", ["depth", "sites"])
def test_a_probe_answers_what_its_table_shows(axis: str, tmp_path: Path) -> None:
    shown = next(each for each in AXES if each.name == axis)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth_probes", axis, "100", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert set(found) == {key for key, _ in shown.measures}
    assert all(
        type(number) is float for number in found.values()
    )  # no sign: a time is the machine's mood
    axis_of_one = shown._replace(values=(100,))
    document = {"interpreter": {"label": "this"}, "axes": {axis: {"100": found}}}
    assert growth.table(axis_of_one, [document]).rows[0][0] == "100"


def test_distinct_stacks_are_held_and_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth_probes", "sites", "3000", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["stacks"] + found["lost"] >= 3000  # at an interval of a byte all are samples


def test_a_live_heap_for_which_there_is_no_memory_is_skipped_with_the_reason(
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.growth_probes import live

    skipped = live(1 << 40, str(tmp_path))
    axis = next(each for each in AXES if each.name == "live")
    measured = {key: 1.0 for key, _ in axis.measures}
    found = {str(value): measured for value in axis.values} | {"4096": skipped}
    document = {"interpreter": {"label": "this"}, "axes": {"live": found}}
    shown = growth.table(axis, [document])
    assert list(shown.rows[-1]) == ["4,096", "-", "-", "-"]
    assert shown.note.startswith("this: no 4096 MiB held: ")
    assert shown.note.endswith(" MiB of memory were available.")


def test_every_axis_has_a_probe_and_a_panel(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.growth_probes import AXES as PROBES

    assert [each.__name__ for each in PROBES] == [axis.name for axis in AXES]
    numbers = {
        axis.name: {str(v): {key: float(v) for key, _ in axis.measures} for v in axis.values}
        for axis in AXES
    }
    growth.plot([{"interpreter": {"label": "this"}, "axes": numbers}], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
