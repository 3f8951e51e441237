"""What runs in the measured interpreter for `overheads`: `python -m benchmarks.probes NAME ...`.

Each probe prints one JSON object. Nothing is imported here that a probe may want to see imported.
"""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    Answer = dict[str, Any]

ROUNDS = 15


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _fastalloc(mode: str, scratch: str, **options: object) -> Any:
    import fastalloc

    options.setdefault("overhead_percent", 0)  # at the interval that was asked for
    fastalloc.start(mode, dir=scratch + "/recordings", **options)
    if mode != "disabled" and not fastalloc.status().active:
        raise RuntimeError(fastalloc.status().reason)
    return fastalloc


def start(mode: str, scratch: str) -> NoReturn:
    """Import and start: in this process's place, since this one has imported too much."""
    script = os.path.join(os.path.dirname(__file__), "bare_start.py")
    os.execv(sys.executable, [sys.executable, "-P", script, mode, scratch])


def scopes(mode: str, scratch: str) -> Answer:
    """Spans, phases and checkpoints: ns each, the loop's own cost taken off."""
    fastalloc = _fastalloc(mode, scratch)
    span, phase, checkpoint = fastalloc.span, fastalloc.phase, fastalloc.checkpoint
    times = range(5000)

    def empty() -> None:
        for _ in times:
            pass

    def a_span() -> None:
        for _ in times:
            with span("GET /orders/"):
                pass

    def a_span_with_attributes() -> None:
        for _ in times:
            with span("GET /orders/", user="7", items=3):
                pass

    def a_phase() -> None:
        for _ in times:
            with phase("render"):
                pass

    def a_checkpoint() -> None:
        for _ in times:
            checkpoint("ready")

    def nanoseconds(function: Callable[[], None]) -> float:
        began = time.process_time_ns()
        function()
        return (time.process_time_ns() - began) / len(times)

    probes = (empty, a_span, a_span_with_attributes, a_phase, a_checkpoint)
    with span("GET /"):
        rounds = [[nanoseconds(function) for function in probes] for _ in range(ROUNDS)]
    loop, *costs = (_median(column) for column in zip(*rounds, strict=True))
    return {f.__name__: cost - loop for f, cost in zip(probes[1:], costs, strict=True)}


def sample(mode: str, scratch: str) -> Answer:
    """One sample: stack, live table, history, and the free that takes it out again. ns."""
    result: Answer = {}
    fastalloc = _fastalloc("targeted", scratch, interval_bytes=1 << 40)
    times = range(20000)

    def churn() -> None:
        for _ in times:
            bytes(100)

    def deep(depth: int, function: Callable[[], None]) -> None:
        deep(depth - 1, function) if depth else function()

    def nanoseconds(depth: int) -> float:
        began = time.process_time_ns()
        deep(depth, churn)
        return (time.process_time_ns() - began) / len(times)

    for depth in (10, 30, 100):
        costs = []
        for _ in range(ROUNDS):
            fastalloc.configure({"interval_bytes": 1 << 40})
            bytes(1 << 21)  # the present draw ends, and the next is made under the new interval
            rare = nanoseconds(depth)
            fastalloc.configure({"interval_bytes": 1})
            bytes(1 << 21)
            costs.append(nanoseconds(depth) - rare)
        result[f"depth {depth}"] = _median(costs)
    return result


def fork(mode: str, scratch: str) -> Answer:
    """os.fork in a process of some size: ms in the parent, and until the child is gone. The first
    is what a prefork server waits for."""
    if mode != "none":
        _fastalloc(mode, scratch)
    ballast = [bytes(1000) for _ in range(50_000)]
    in_parent, whole = [], []
    for _ in range(40):
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            os._exit(0)
        in_parent.append((time.perf_counter() - began) * 1e3)
        os.waitpid(child, 0)
        whole.append((time.perf_counter() - began) * 1e3)
    assert ballast
    return {"parent_ms": _median(in_parent), "until_child_gone_ms": _median(whole)}


def looks(mode: str, scratch: str) -> Answer:
    """What is looked at when somebody asks, or once in a while: ms each."""
    _fastalloc(mode, scratch, native=True)
    import ctypes

    from fastalloc import _core

    def milliseconds(look: Callable[[], object]) -> float:
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            look()
            took.append((time.perf_counter() - began) * 1e3)
        return _median(took)

    result = {
        "resident": milliseconds(_core.look_at_resident),
        "loaded": milliseconds(_core.native_look),
    }
    kept = [(number,) for number in range(1_000_000)]
    result["resident_objects"] = milliseconds(_core.look_at_resident)
    del kept
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [
        libc.malloc(2000) for _ in range(400_000)
    ]  # beyond what malloc keeps in lists of its own
    for block in blocks[::2]:
        libc.free(block)
    result["resident_pieces"] = milliseconds(_core.look_at_resident)
    return result


def memory(mode: str, scratch: str, seconds: str, requests: str) -> Answer:
    """A Django shop served in this process, from four threads, for a while: what the recorder
    touched. `requests`: how many at most, 0: as many as fit in the time."""
    if mode != "none":
        fastalloc = _fastalloc(mode, scratch)
    import threading

    os.environ["SHOP_DATABASE"] = scratch + "/shop.sqlite3"
    from fastalloc.demo.load import BLOATING, MIX, path_of
    from fastalloc.demo.project.wsgi import application

    cookie = _signed_in()
    mix = [path for path in MIX if not path.startswith(BLOATING)]
    until = time.monotonic() + float(seconds)
    done = [0] * 4
    most = int(requests) or 1 << 40

    def serve(place: int) -> None:
        number = place
        while time.monotonic() < until and number < most:
            status = _request(application, path_of(number, mix), cookie)
            assert status.startswith("200"), (status, path_of(number, mix))
            done[place] += 1
            number += 4

    threads = [threading.Thread(target=serve, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result: Answer = {"requests": sum(done), "rss_bytes": _rss_bytes()}
    if mode != "none":
        result |= _touched(fastalloc.status().recording)
        result["samples"] = fastalloc.status().samples
        result["live_bytes"] = fastalloc.status().live_bytes
    return result


def _signed_in() -> str:
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client()
    client.force_login(get_user_model().objects.get(username="admin"))
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in client.cookies.values())


def _request(application: Any, path: str, cookie: str) -> str:
    from wsgiref.util import setup_testing_defaults

    path, _, query = path.partition("?")
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "HTTP_COOKIE": cookie}
    setup_testing_defaults(environ)
    answer: list[str] = []
    body = application(environ, lambda status, headers, *rest: answer.append(status))
    try:
        for _ in body:
            pass
    finally:
        if hasattr(body, "close"):
            body.close()
    return answer[0]


def _touched(recording: str) -> Answer:
    """Resident bytes of the recording, of the core's private tables, and of its own file."""
    import ctypes

    numbers = (ctypes.c_uint64 * 2048)()
    count = ctypes.CDLL(None).mappings_of_core(numbers, 1024)
    file = code = data = 0
    recordings = []
    kind = None
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                name = words[5] if len(words) > 5 else ""
                kind = (
                    "file" if name == recording else "core" if "/fastalloc/_core" in name else None
                )
                if kind == "file":
                    recordings.append(tuple(int(end, 16) for end in words[0].split("-")))
            elif kind == "file" and words[0] == "Rss:":
                file += int(words[1]) * 1024
            elif kind == "core" and words[0] == "Private_Dirty:":
                data += int(words[1]) * 1024
            elif kind == "core" and words[0] == "Rss:":
                code += int(words[1]) * 1024
    own = [
        (numbers[2 * i], numbers[2 * i + 1])
        for i in range(count)
        if not any(low <= numbers[2 * i] < high for low, high in recordings)
    ]
    sizes = [length for _, length in own]
    tables = [_resident(address, length) for address, length in own]
    return {
        "recording_bytes": file,
        "tables_bytes": sum(tables),
        "data_bytes": data,
        "code_bytes": code - data,
        "tables": len(tables),
        "by_region": _by_region(recording, *recordings[0]) if recordings else {},
        "by_table": sorted(zip(sizes, tables, strict=True), reverse=True),
    }


def _by_region(path: str, begin: int, end: int) -> Answer:
    """Resident bytes of each region of the recording, and how many bytes of it are in use."""
    from fastalloc.recording.layout import HEADER, Region

    with open(path, "rb") as file:
        header = file.read(HEADER.itemsize)
    import numpy

    regions = numpy.frombuffer(header, HEADER, 1)[0]["regions"]
    found: Answer = {}
    for region in Region:
        place = regions[region]
        length = int(place["stride"]) * int(place["capacity"])
        used = min(int(place["used"]), int(place["capacity"])) * int(place["stride"])
        found[region.name.lower()] = (_resident(begin + int(place["offset"]), length), used)
    return found


def _resident(address: int, length: int) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // page * 8)
        flags = pagemap.read(-(-length // page) * 8)
    present = sum(flags[at + 7] >> 7 for at in range(0, len(flags), 8))
    return present * page


def _rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    probes = {each.__name__: each for each in (start, scopes, sample, fork, looks, memory)}
    print(json.dumps(probes[sys.argv[1]](*sys.argv[2:])))
