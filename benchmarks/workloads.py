"""The workloads. `WORKLOADS[name]()` prepares one and returns the function that does it once.

From pyperformance, its own functions with fewer or smaller rounds: json_loads, json_dumps, pickle, django_template,
raytrace, deltablue, async_tree. workloads_services has those with a server or a database, workloads_native those of C libraries. The
others are loops that do little but allocate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.workloads_native import WORKLOADS_NATIVE
from benchmarks.workloads_pyperformance import pyperformance
from benchmarks.workloads_services import SERVICES

Work = Callable[[], object]


def json_loads() -> Work:
    """Small documents, as services parse them."""
    import json

    bench = pyperformance("json_loads")
    texts = tuple(json.dumps(value) for value in (bench.DICT, bench.TUPLE, bench.DICT_GROUP))
    return lambda: [bench.bench_json_loads(texts) for _ in range(4)]


def json_dumps() -> Work:
    """Documents written: small and nested ones, and a list of a thousand."""
    bench = pyperformance("json_dumps")
    cases = [getattr(bench, name) for name in bench.CASES]
    data = [(value, range(max(1, count // 10))) for value, count in cases]
    return lambda: bench.bench_json_dumps(data)


def pickle() -> Work:
    """Dicts and tuples, written and read again."""
    import pickle as module
    from types import SimpleNamespace

    bench = pyperformance("pickle")
    options = SimpleNamespace(protocol=module.HIGHEST_PROTOCOL)

    def work() -> None:
        bench.bench_pickle(5, module, options)
        bench.bench_unpickle(5, module, options)

    return work


class _Kept:
    """In the place of pyperf's runner: keeps what it is told to measure."""

    work: Work

    def bench_func(self, name: str, function: Callable[..., object], *arguments: object) -> None:
        self.work = lambda: function(*arguments)


def django_template() -> Work:
    """An HTML table of 40 x 40 cells."""
    import django
    from django.conf import settings

    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates"}
    settings.configure(TEMPLATES=[engine])
    django.setup()
    kept = _Kept()
    pyperformance("django_template").bench_django_template(kept, 40)
    return kept.work


def dicts() -> Work:
    """Dicts made and dropped, small and growing."""

    def work() -> None:
        for number in range(2000):
            small = {"id": number, "name": "x", "tags": []}
            copy = dict(small)
            copy["more"] = number
            {key: key for key in range(12)}

    return work


def strs() -> Work:
    """Strings cut, joined and formatted."""

    def work() -> None:
        line = "alpha,beta,gamma,delta,epsilon,zeta,eta,theta"
        for number in range(1500):
            parts = line.split(",")
            upper = [part.upper() for part in parts]
            text = "-".join(upper)
            f"{number}: {text[3:20]}".encode().decode()

    return work


class _Point:
    __slots__ = ("x", "y")

    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y


def small_objects() -> Work:
    """Slotted instances, floats and tuples, some of which live a little."""

    def work() -> None:
        kept = []
        for number in range(3000):
            point = _Point(number * 0.5, number * 1.5)
            pair = (point.x + 1.0, point.y + 1.0)
            if number % 4 == 0:
                kept.append((point, pair))

    return work


def binary_trees() -> Work:
    """Trees built and walked: allocations nested in deep recursion."""

    def make(depth: int) -> Any:
        return (make(depth - 1), make(depth - 1)) if depth else (None, None)

    def check(tree: Any) -> int:
        left, right = tree
        return 1 if left is None else 1 + check(left) + check(right)

    return lambda: [check(make(depth)) for depth in (6, 8, 10)]


def raytrace() -> Work:
    """Floats, small objects and method calls."""
    bench = pyperformance("raytrace")
    return lambda: bench.bench_raytrace(1, 12, 12, None)


def deltablue() -> Work:
    """A constraint solver: objects and lists."""
    bench = pyperformance("deltablue")
    return lambda: bench.delta_blue(100)


def async_tree() -> Work:
    """asyncio.gather over a tree of tasks."""
    import asyncio

    bench = pyperformance("async_tree")
    vars(bench)["NUM_RECURSE_LEVELS"] = 4
    tree = bench.NoneAsyncTree()
    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(tree.run())


def regex() -> Work:
    """Patterns compiled and searched."""
    import re

    patterns = (
        r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2}))?",
        r"(?P<user>[\w.+-]+)@(?P<host>[\w-]+(?:\.[\w-]+)+)",
        r"^(?:GET|POST|PUT)\s+(/[^\s?]*)(?:\?(\S*))?\s+HTTP/1\.[01]$",
        r"\b(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}\b",
    )
    text = (
        "POST /a?b=c HTTP/1.1 from ann.lee@mail.example.org at 2025-06-30T18:00 via 10.0.0.1 " * 4
    )

    def work() -> None:
        for pattern in patterns:
            re.purge()
            compiled = re.compile(pattern)
            for _ in range(20):
                compiled.findall(text)

    return work


def numpy() -> Work:
    """Small arrays, where the cost is around the arithmetic, and some of 1 MB; each kind takes part of the time."""
    import numpy as np

    small, large = np.arange(64.0), np.arange(131_072.0)

    def scale(values: Any, times: int) -> None:
        for _ in range(times):
            scaled = values * 2.0 + 1.0
            scaled[8:24].sum()
            np.concatenate((scaled, values))

    def work() -> None:
        scale(small, 300)
        scale(large, 2)

    return work


WORKLOADS: dict[str, Callable[[], Work]] = {
    make.__name__: make
    for make in (
        *(json_loads, json_dumps, pickle, django_template, dicts, strs, small_objects),
        *(
            binary_trees,
            raytrace,
            deltablue,
            async_tree,
            regex,
            numpy,
            *WORKLOADS_NATIVE,
            *SERVICES,
        ),
    )
}
