"""Caches: what grows is found by name, in steps that end, without running the program's code."""

from __future__ import annotations

import functools
import sys
import types
from collections import defaultdict, deque

import pytest

from fastalloc.trackers import caches
from fastalloc.trackers.caches import Sweeps, estimated_bytes


class Hostile:
    """Any look at it that runs its code fails the test."""

    def _fail(self, *args: object) -> None:
        raise AssertionError("code of the program ran")

    __len__ = __iter__ = __sizeof__ = __getattr__ = __eq__ = __bool__ = _fail
    __hash__ = object.__hash__


class Registry:
    def __init__(self) -> None:
        self.entries: list[str] = []


@pytest.fixture
def module(monkeypatch):
    """A module of the program's own."""
    made = types.ModuleType("shop_of_this_test")
    made.prices = {}
    made.names = defaultdict(list)
    made.recent = deque(maxlen=100)
    made.small = []
    made.still = {n: n for n in range(500)}
    made.registry = Registry()
    made.hostile = Hostile()
    made.look_up = functools.lru_cache(maxsize=None)(lambda number: "x" * 1000)
    holder = type("Holder", (), {"by_class": {}, "__module__": "shop_of_this_test"})
    made.Holder = holder
    monkeypatch.setitem(sys.modules, "shop_of_this_test", made)
    return made


def sweep(sweeps: Sweeps) -> dict:
    finished = sweeps.finished
    sweeps._due = 0.0
    while sweeps.finished == finished:
        sweeps.step()
    told = sweeps.to_dict()
    assert told is not None
    return {
        name: one for name, one in told["growing"].items() if name.startswith("shop_of_this_test")
    }


def grow(module, by: int) -> None:
    for _ in range(by):
        number = len(module.prices)
        module.prices[number] = "y" * 100
        module.names[number].append(number)
        module.recent.append(number)
        module.registry.entries.append(str(number))
        module.Holder.by_class[number] = number
        module.look_up(number)
        if number < 40:
            module.small.append(number)


def test_what_grows_is_named_and_what_does_not_is_not(module) -> None:
    sweeps = Sweeps()
    grow(module, 100)
    assert sweep(sweeps) == {}
    grow(module, 300)
    growing = sweep(sweeps)
    of = "shop_of_this_test."
    assert set(growing) == {
        *(f"{of}prices", f"{of}names", f"{of}registry.entries", f"{of}Holder.by_class"),
        f"{of}look_up",
    }
    assert growing[f"{of}prices"]["length"] == 400 and growing[f"{of}prices"]["grown_by"] == 300
    assert growing[f"{of}look_up"]["kind"] == "lru_cache_wrapper"
    assert growing[f"{of}prices"]["grew_in_last_sweeps"] == 1
    grow(module, 10)
    assert sweep(sweeps)[f"{of}prices"]["grew_in_last_sweeps"] == 2
    assert sweep(sweeps)[f"{of}prices"]["grew_in_last_sweeps"] == 0


def test_a_step_ends_in_time_and_a_sweep_goes_on_where_it_was(module, monkeypatch) -> None:
    monkeypatch.setattr(caches, "STEP_SECONDS", 0.0)
    sweeps = Sweeps()
    steps = 0
    while not sweeps.finished:
        sweeps.step()
        steps += 1
    assert steps > 20  # this process has thousands of names, and a step ends after 64 of them
    sweeps.step()
    assert sweeps.finished == 1  # the next sweep is not due yet


def test_the_table_has_an_end(module, monkeypatch) -> None:
    monkeypatch.setattr(caches, "MAX_KEPT", 0)
    sweeps = Sweeps()
    grow(module, 100)
    sweep(sweeps)
    told = sweeps.to_dict()
    assert told is not None and told["watched"] == 0 and told["not_kept"] > 3


def test_sizes_are_estimated_from_a_few_entries() -> None:
    rows = {n: {"name": f"name {n:05}", "text": "x" * 500} for n in range(10_000)}
    # 184 bytes of dict, 59 and 549 of texts, 28 of key; names of keys are shared, and estimated anew
    each = sys.getsizeof(rows[0]) + 59 + 549 + 28 + 2 * 53
    truth = sys.getsizeof(rows) + 10_000 * each
    assert estimated_bytes(rows, len(rows)) == pytest.approx(truth, rel=0.1)

    @functools.lru_cache(maxsize=5000)
    def text(number: int) -> str:
        return "x" * 2000

    for number in range(1000):
        text(number)
    assert estimated_bytes(text, 1000) == pytest.approx(1000 * (2049 + 28 + 100), rel=0.2)


def test_growth_reaches_the_dump_of_a_recorded_process(answer_of) -> None:
    told = answer_of("cache_calls")["caches"]
    assert "__main__.answers" in told["growing"]
    assert told["growing"]["__main__.answers"]["length"] == 5000
    assert told["sweeps"] >= 2
    assert told["longest_step_seconds"] < 0.5  # 3 ms, and however long others held the GIL
