"""Launches: who takes part, in which order, on which CPU, and what is kept of them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.interpreters import (
    ROOT,
    Interpreter,
    absent_build,
    describe,
    distinct,
    environment,
)
from benchmarks.profilers import Profiler
from benchmarks.turns import WorkerError, launch, orders, said

from benchmarks import compare, instructions, lot, results, turns, whole, worker


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(turns, "FOLDER", tmp_path)


@pytest.fixture
def here() -> Interpreter:
    return describe(sys.executable)


def test_an_interpreter_named_twice_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    base = getattr(sys, "_base_executable", sys.executable)
    assert len(distinct([sys.executable, base])) == 1
    assert "the same build" in capsys.readouterr().err


def test_the_build_that_is_missing_is_named(here: Interpreter) -> None:
    assert "PGO" in absent_build([here])
    other = describe(sys.executable)
    other.optimized = not here.optimized
    assert absent_build([here, other]) == ""


def test_nobody_follows_the_same_one_always() -> None:
    names = ["none", "control", "light", "ddtrace"]
    drawn = list(orders(names, "dicts-0", 400))
    assert drawn == list(orders(names, "dicts-0", 400))
    assert all(sorted(order) == sorted(names) for order in drawn)
    before = Counter(
        order[place - 1] for order in drawn for place in range(1, 4) if order[place] == "light"
    )
    # each of three precedes "light" in a quarter of 400 orders: 100, standard deviation 8.7; five of them
    assert set(before) == set(names) - {"light"}
    assert all(abs(count - 100) < 44 for count in before.values())


def test_slow_profilers_have_launches_of_their_own_in_few_of_the_launches(
    here: Interpreter,
) -> None:
    tasks = compare.plan([here], ["dicts", "strs"], [False, True], 7)
    assert [task.part for task in tasks[:4]] == ["dicts-0", "strs-0", "dicts-slow-0", "strs-slow-0"]
    assert len([task for task in tasks if task.slow]) == 2 * math.ceil(7 / compare.SLOW_EVERY)
    assert len({task.part for task in tasks}) == len(tasks)


def test_the_heap_lies_by_lot_in_a_launch_and_where_it_always_does_in_a_count() -> None:
    program = """
import json, sys
from benchmarks.lot import kept_blocks, move
for _ in range(int(sys.argv[1])): move()
print(json.dumps([len(block) for block in kept_blocks]))
"""

    def drawn(moves: int = 0, **variables: str) -> list[int]:
        ran = subprocess.run(
            [sys.executable, "-c", program, str(moves)],
            env={**environment(PYTHONPATH=str(ROOT)), **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return list(json.loads(ran.stdout))

    first = drawn(BENCHMARK_LOT="dicts light 1")
    assert first == drawn(BENCHMARK_LOT="dicts light 1")
    assert first != drawn(BENCHMARK_LOT="dicts none 1")
    assert 0 < max(first) < lot.BYTES
    moved = drawn(moves=1, BENCHMARK_LOT="dicts light 1")
    other = sum(a != b for a, b in zip(first, moved, strict=True))
    assert 0.4 * len(first) < other <= len(first) // 2  # one new size in 70 is the old one
    assert drawn() == drawn(moves=1) == []


def test_a_loop_of_one_is_warmed_up_too() -> None:
    calls = []
    worker.measure(lambda: calls.append(1), 1)
    assert len(calls) == 2


def test_a_launch_measures_what_takes_part_and_tells_what_failed(
    here: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns.PROFILERS["forward"], "command", lambda scratch: ["-c", "1 / 0"])
    found = launch(
        here,
        ["none", "control", "tracemalloc", "forward"],
        "dicts",
        0,
        until=0,
        rounds=9,
        least_rounds=3,
        round_seconds=0.001,
        cpu=min(os.sched_getaffinity(0)),
    )
    assert {name: len(each) for name, each in found["seconds"].items()} == {
        "none": 3,
        "control": 3,
        "tracemalloc": 3,
    }
    assert found["failed"]["forward"].startswith("exit status 1: Traceback")
    assert found["failed"]["forward"].endswith("ZeroDivisionError: division by zero")
    assert set(found["memory"]["written"]) == {"none", "control", "tracemalloc"}


def test_files_that_are_written_at_the_end_count(here: Interpreter, tmp_path: Path) -> None:
    program = (
        "import sys, json; print(json.dumps({'start_rss_bytes': 0}), flush=True)\n"
        "for line in sys.stdin: pass\n"
        "print(json.dumps({'peak_rss_bytes': 1}), flush=True)\n"
        "open(sys.argv[3] + '/late', 'wb').write(b'x' * 100_000)"
    )
    python = Path(sys.executable)
    profiler = Profiler("late", "late", lambda scratch: None, command=lambda _: ["-c", program])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(turns.PROFILERS, "late", profiler)
        with turns.Worker(python, "late", "dicts", str(tmp_path), 1, None) as late:
            late.ready()
            assert late.written_bytes() == 0
            late.peak_rss_bytes()
            assert late.written_at_end_bytes() >= 100_000


def test_what_a_process_said_last_is_kept_a_traceback_long() -> None:
    assert said(3, "") == "exit status 3: silent"
    assert "first" in said(1, "first\n" + "x" * 1000)
    assert len(said(1, "x" * 100_000)) < 5000


def run(here: Interpreter, **more: Any) -> None:
    """`compare.run` of the cheapest."""
    compare.run(
        [here],
        ["none", "control"],
        ["dicts"],
        launches=1,
        rounds=1,
        round_seconds=0.001,
        minutes=0,
        cpus=[0],
        **more,
    )


def test_resume_measures_a_failed_launch_again_and_no_other(
    here: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(*arguments: Any, **named: Any) -> dict[str, Any]:
        calls.append("failing")
        raise WorkerError("exit status 1: nothing")

    def good(*arguments: Any, **named: Any) -> dict[str, Any]:
        calls.append("good")
        return {
            "workload": "dicts",
            "launch": 0,
            "failed": {},
            "memory": {},
            "seconds": {"none": [1.0]},
        }

    for answer in (failing, good, good):
        monkeypatch.setattr(compare, "launch", answer)
        run(here, resume=True)
    assert calls == ["failing", "good"]


def test_a_cpu_that_this_process_may_not_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main(["--cpu", "100000"])
    assert ended.value.code == 2
    assert "may run on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--workloads", "dicts"], ["--profilers", "none", "ddtrace"]],
    ids=["workloads", "profilers"],
)
def test_a_part_of_the_comparison_leaves_the_whole_alone(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []
    monkeypatch.setattr(compare, "prepare_all", lambda pythons: [])
    monkeypatch.setattr(compare, "run", lambda *args, kind, **named: kinds.append(kind))
    compare.main(arguments)
    compare.main([])
    assert kinds == ["compare_part", "compare"]


def test_fewer_counts_are_added_to_more_and_a_failure_loses_none() -> None:
    known = instructions.merged({}, "workloads", {"dicts": {"none": 1.0, "light": 2.0}}, {})
    known = instructions.merged(known, "workloads", {"strs": {"none": 3.0}}, {"ddtrace": "why"})
    known = instructions.merged(known, "pairs", {"OBJ": {"light": 4.0}}, {})
    assert known["workloads"] == {"dicts": {"none": 1.0, "light": 2.0}, "strs": {"none": 3.0}}
    assert known["pairs"] == {"OBJ": {"light": 4.0}}
    assert known["failed"] == {"ddtrace": "why"}
    assert instructions.merged(known, "pairs", {"OBJ": {"ddtrace": 9.0}}, {})["failed"] == {}


def test_what_a_part_has_to_tell_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, here: Interpreter
) -> None:
    ran = []

    def raising(builds: object, minutes: float, resume: bool) -> str:
        raise RuntimeError("no luck")

    def fine(builds: object, minutes: float, resume: bool) -> str:
        ran.append("fine")
        return ""

    monkeypatch.setattr(whole.report, "main", lambda arguments: 0)
    monkeypatch.setattr(whole.counting, "missing", lambda: "valgrind is not installed")
    monkeypatch.setitem(whole.PARTS, "compare", whole.Part("compare", 0.5, raising))
    monkeypatch.setitem(whole.PARTS, "accuracy", whole.Part("accuracy", 0.5, fine))
    assert whole.run(["compare", "instructions", "accuracy"], [here], 1, False) == 1
    told = results.failures()
    assert told["compare"] == "RuntimeError: no luck"
    assert told["instructions"] == "valgrind is not installed"
    assert "accuracy" not in told
    assert ran == ["fine"]
