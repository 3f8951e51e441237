"""What a request is to those inside it: the present one, its phases, whether to look closely."""

from __future__ import annotations

import pytest

from tests.core.programs import Programs

PRELUDE = """
import fastalloc
from fastalloc import requests
from tests.core.inside import *
def blocks(count): library.churn(RAW, 1_000_000, count)
def start(**options): fastalloc.start(**{"request_percent": 0, "seed": 7, **options})
"""


def run(programs: Programs, body: str, **more):
    return programs.run(PRELUDE + body, **more)


def test_the_present_request_is_known_inside_it(programs: Programs) -> None:
    answer = run(
        programs,
        """
import asyncio, threading
start()
seen = [requests.current()]
request = requests.begin("GET /a")
seen.append(requests.current() is request)
with fastalloc.phase("view"), fastalloc.span("inner"), fastalloc.phase("query"):
    seen.append(requests.current() is request)
inner = requests.begin("task", kind="task")
seen.append(requests.current() is inner)
inner.end()
seen.append(requests.current() is request)
in_thread = []
thread = threading.Thread(target=lambda: in_thread.append(requests.current()))
thread.start(); thread.join()
seen += in_thread                                   # a new thread has a context of its own
async def child(): return requests.current() is request
async def main(): return await asyncio.gather(child(), asyncio.to_thread(requests.current))
one, other = asyncio.run(main())
seen += [one, other is request]
request.end()
seen.append(requests.current())
answer(seen=seen)
""",
    ).answer
    assert answer["seen"] == [None, True, True, True, True, None, True, True, None]


@pytest.mark.slow
def test_a_child_task_that_outlives_its_request_is_in_none(programs: Programs) -> None:
    answer = run(
        programs,
        """
import asyncio
start()
async def late(ended):
    await ended.wait()
    return requests.current() is None
async def main():
    ended = asyncio.Event()
    request = requests.begin("GET /a")
    task = asyncio.ensure_future(late(ended))
    await asyncio.sleep(0)
    request.end()
    ended.set()
    return await task
answer(none=asyncio.run(main()))
""",
    ).answer
    assert answer["none"] is True


def test_phases_are_added_up_by_name_with_exact_bytes(programs: Programs) -> None:
    answer = run(
        programs,
        """
start()
request = requests.begin("GET /a")
request.enter("view")
blocks(1)
for n in range(3):
    with fastalloc.phase("query"):
        blocks(2)
        with fastalloc.phase("fetch"):
            blocks(4)
request.enter("render")
blocks(8)
request.end()
answer(phases={name: [part.entered, part.bytes // 1_000_000] for name, part in request.phases.items()},
       bytes=request.totals()[2] // 1_000_000)
""",
    ).answer
    assert answer["phases"] == {
        "view": [1, 1 + 3 * (2 + 4)],
        "query": [3, 3 * (2 + 4)],
        "fetch": [3, 3 * 4],
        "render": [1, 8],
    }
    assert answer["bytes"] == 1 + 3 * (2 + 4) + 8


@pytest.mark.slow
def test_names_of_phases_are_bounded(programs: Programs) -> None:
    answer = run(
        programs,
        """
start()
request = requests.begin("GET /a")
for n in range(1000):
    with fastalloc.phase(f"phase {n}"): pass
    fastalloc.checkpoint(f"checkpoint {n}")
    request.digest(f"tracker {n}", {})
request.end()
answer(phases=len(request.phases), checkpoints=len(request.checkpoints), digests=len(request.digests))
""",
    ).answer
    assert answer == {"phases": 64, "checkpoints": 32, "digests": 16}


def test_peak_and_held_bytes_are_the_requests_own(programs: Programs) -> None:
    answer = run(
        programs,
        """
start(interval_bytes=1)
before = Blocks(3).allocate(1_000_000)
request = requests.begin("GET /a")
freed, kept = Blocks(5).allocate(1_000_000), Blocks(2).allocate(1_000_000)
freed.release()
request.end()
duration, count, total, change, held, peak = request.totals()
answer(held=held // 1_000_000, peak=peak // 1_000_000, change=round(change / 1e6))
""",
    ).answer
    assert answer == {"held": 2, "peak": 7, "change": 2}


@pytest.mark.slow
def test_the_lot_is_the_same_with_the_same_seed(programs: Programs) -> None:
    body = """
start(request_percent=20)
chosen = []
for n in range(200):
    request = requests.begin(f"GET /{n}")
    chosen.append(request.chosen == "lot")
    request.end()
answer(chosen=chosen)
"""
    first, second = run(programs, body).answer["chosen"], run(programs, body).answer["chosen"]
    other = run(programs, body.replace("20)", "20, seed=8)")).answer["chosen"]
    assert first == second != other
    assert 20 <= sum(first) <= 64  # 40 expected; beyond 4 standard deviations of 5.7


@pytest.mark.slow
def test_forked_workers_without_a_seed_draw_apart(programs: Programs) -> None:
    answer = run(
        programs,
        """
import os
start(request_percent=50, seed=0)
def draw():
    chosen = ""
    for n in range(64):
        request = requests.begin(f"GET /{n}")
        chosen += str(int(request.chosen == "lot"))
        request.end()
    return chosen
draw()
drawn = []
for worker in range(2):
    read, write = os.pipe()
    if not os.fork():
        os.write(write, draw().encode()); os._exit(0)
    os.wait()
    drawn.append(os.read(read, 100).decode())
answer(drawn=drawn)
""",
    ).answer
    first, second = answer["drawn"]
    assert len(first) == 64
    assert first != second


def test_each_route_is_looked_at_once_a_minute_at_least(programs: Programs) -> None:
    answer = run(
        programs,
        """
start()
reasons = []
for n in range(6):
    request = requests.begin("GET (no route)", named=False)
    request.rename(f"GET /{n % 2}")
    reasons.append(request.chosen)
    request.end()
known = []
for n in range(4):                                          # the name is known from the begin
    request = requests.begin(f"job {n % 2}", kind="job")
    known.append(request.chosen)
    request.rename(f"job {n % 2}")
    request.end()
same = []
for n in range(2):                                          # a route that turns out as it was called
    request = requests.begin("GET /same", named=False)
    same.append(request.chosen)
    request.rename("GET /same")
    same.append(request.chosen)
    request.end()
answer(reasons=reasons, known=known, same=same)
""",
    ).answer
    assert answer["reasons"] == ["route", "route", "", "", "", ""]
    assert answer["known"] == ["route", "route", "", ""]
    assert answer["same"] == ["", "route", "", ""]


def test_a_route_known_only_inside_is_asked_for_when_a_tracker_asks(programs: Programs) -> None:
    answer = run(
        programs,
        """
start()
route = None
seen = []
for n in range(2):
    route = None
    request = requests.begin("GET (no route)", named=False, route_of=lambda: route)
    seen.append(request.detailed)
    route = "GET /{a}"
    seen += [request.detailed, request.name]
    request.end()
answer(seen=seen)
""",
    ).answer
    assert answer["seen"] == [False, True, "GET /{a}", False, False, "GET /{a}"]


def test_a_request_that_grows_large_is_looked_at_from_there(programs: Programs) -> None:
    answer = run(
        programs,
        """
start()
seen = []
for n in range(2):
    request = requests.begin("GET /a", named=False)
    seen.append(request.detailed)
    held = Blocks(40).allocate(1_000_000)
    seen += [request.detailed, request.chosen]
    request.end()
answer(seen=seen)
""",
    ).answer
    assert answer["seen"] == [False, True, "growing", False, False, ""]  # not twice in 10 s


def test_aggressive_mode_looks_at_each(programs: Programs) -> None:
    answer = run(
        programs,
        """
start(mode="aggressive")
request = requests.begin("GET /a")
in_aggressive = request.chosen
request.end()
fastalloc.configure({"mode": "light"})
request = requests.begin("GET /a")
in_light = request.chosen
request.end()
fastalloc.configure({"request_percent": 100})
request = requests.begin("GET /a")
answer(aggressive=in_aggressive, light=in_light, all=request.chosen)
""",
    ).answer
    assert answer == {"aggressive": "mode", "light": "", "all": "lot"}


def test_trackers_are_told_of_requests_in_detail_only(programs: Programs) -> None:
    answer = run(
        programs,
        """
start()
told = []
requests.observe("one", lambda r: told.append(["began", r.name]), lambda r: told.append(["ended", r.name]))
requests.observe("two", lambda r: 1 / 0, lambda r: 1 / 0)
for name in ("GET /a", "GET /b"):
    request = requests.begin("GET (no route)", named=False)
    if name == "GET /a": request.rename(name)
    request.end(); request.end()
failures = {b["layer"]: b["failures"] for b in fastalloc.status().breakers}
answer(told=told, failures=failures["two"])
""",
    ).answer
    assert answer["told"] == [["began", "GET /a"], ["ended", "GET /a"]]
    assert answer["failures"] == 2


def test_nothing_happens_while_nothing_is_recorded(programs: Programs) -> None:
    answer = run(
        programs,
        """
request = requests.begin("GET /a")
request.enter("view"); request.rename("GET /b"); request.leave(); request.passed("x")
seen = [request.detailed, requests.current(), request.phases, request.name]
request.end()
fastalloc.start(mode="disabled")
seen.append(requests.begin("GET /a").detailed)
answer(seen=seen)
""",
    ).answer
    assert answer["seen"] == [False, None, {}, "GET /b", False]


@pytest.mark.slow
def test_a_request_ended_in_another_thread_is_ended(programs: Programs) -> None:
    answer = run(
        programs,
        """
import threading
start()
request = requests.begin("GET /a")
request.enter("stream")
thread = threading.Thread(target=request.end)
thread.start(); thread.join()
answer(current=requests.current(), ended=request.ended)
""",
    ).answer
    assert answer == {"current": None, "ended": True}


CLOSELY = """
import asyncio, threading
from fastalloc import tokens
SECRET = "the secret of this service"
start(token_secret=SECRET, interval_bytes=1 << 40)         # else hardly a sample is taken
def samples(span):
    return sum(1 for s in fastalloc.snapshot().live if int(s["span"]) == span)
"""


def test_a_forced_request_is_recorded_closely_and_no_other(programs: Programs) -> None:
    answer = run(
        programs,
        CLOSELY
        + """
token = tokens.make(SECRET, "/orders/{id}/")
found, kept = [], []
async def request(name, token):
    r = requests.begin("GET (no route)", token=token, named=False)
    r.enter("middleware")
    r.rename(name)
    r.enter("view")
    for n in range(20):
        kept.append(Blocks(1).allocate(100_000))
        await asyncio.sleep(0)
    await asyncio.to_thread(lambda: kept.append(Blocks(1).allocate(100_000)))
    with fastalloc.span("inside"): kept.append(Blocks(1).allocate(100_000))
    r.end()
    return [r.chosen, r.totals()[4]]
async def main():
    return await asyncio.gather(request("GET /orders/{id}/", token), request("GET /b", token),
                                request("GET /orders/{id}/", token[:-1] + "_"), request("GET /orders/{id}/", token))
ended = asyncio.run(main())
outside = Blocks(20).allocate(100_000)
s = fastalloc.snapshot()
answer(ended=ended, interval=fastalloc.status().interval_bytes, outside=s.live_bytes - sum(e[1] for e in ended))
""",
    ).answer
    (forced, held), other, bad, (again, held_again) = answer["ended"]
    assert forced == again == "forced"
    for count in (held, held_again):  # blocks of 100 kB: all but e ** -24 of them are samples
        assert 21 * 100_000 <= count < 21 * 100_000 + 200_000
    assert other[0] == "route" and other[1] < 100_000
    assert bad[0] in ("", "route") and bad[1] < 100_000
    assert answer["interval"] == 1 << 40
    assert answer["outside"] <= 300_000  # the two spans inside the forced requests


@pytest.mark.slow
def test_recording_closely_stops_where_the_table_is_half_full(programs: Programs) -> None:
    answer = run(
        programs,
        CLOSELY
        + """
request = requests.begin("GET /a", token=tokens.make(SECRET))
chosen = request.chosen
blocks = Blocks(60_000).allocate(50_000)                    # all of them would be samples
request.end()
s = fastalloc.snapshot()
answer(chosen=chosen, samples=len(s.live), interval=fastalloc.status().interval_bytes,
       thinned="thinned" in list(s.events["kind"]), losses=sum(s.losses.values()))
""",
    ).answer
    assert answer["chosen"] == "forced"
    assert answer["samples"] > 1000
    assert answer["interval"] == 1 << 40 and not answer["thinned"] and not answer["losses"]
