"""What hooks and samples cost, told within one process."""

from __future__ import annotations

import sys

import pytest
from benchmarks.interpreters import answer, describe
from benchmarks.switched_program import STATES

from benchmarks import lot, switched


def test_a_state_stands_over_the_turns_beside_it_that_are_off() -> None:
    launches = [
        {"seconds": {"off": [1.0, 2.0, 4.0], "recording": [1.1, 2.2, 4.4]}},
        {"seconds": {"off": [3.0, 3.0, 1.0], "recording": [3.3, 3.3, 1.1]}},
    ]
    assert switched.cell(launches, "recording") == "1.1000 ± 0.0000"


def test_the_process_counts_and_samples_only_where_it_says_so() -> None:
    found = answer(
        describe(sys.executable),
        "benchmarks.switched_program",
        *("strs", False, 3),
        seed=1,
        seconds=60,
        variables={lot.VARIABLE: "strs 1"},
    )
    assert set(found["seconds"]) == set(STATES)
    assert all(len(turns) == 3 and min(turns) > 0 for turns in found["seconds"].values())
    assert found["samples"]["recording"] > 0
    assert not any(found["samples"][name] for name in ("off", "again", "counting"))
    # Off, nothing is hooked: what is left are the few that asking takes.
    assert found["counts"]["off"] * 1000 < found["counts"]["counting"]
    assert found["counts"]["recording"] == pytest.approx(found["counts"]["counting"], rel=0.05)
