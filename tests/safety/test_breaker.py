"""A layer that keeps failing is switched off, and tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastalloc import breaker
from fastalloc.breaker import OPENS_AT, RETRY_SECONDS, Breaker, breakers

clock = 0.0


@pytest.fixture(autouse=True)
def own_clock_and_breakers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that stands still, and no breakers of others."""
    monkeypatch.setattr(breaker, "monotonic", lambda: clock)
    monkeypatch.setattr(breaker, "_breakers", {})
    yield
    assert breaker._lock.acquire(blocking=False), "a breaker kept the lock"
    breaker._lock.release()


def fail() -> None:
    raise ValueError("the text may hold a secret")


def advance(seconds: float) -> None:
    global clock
    clock += seconds


def open_breaker(layer: str = "layer") -> Breaker:
    made = Breaker(layer)
    for _ in range(OPENS_AT):
        made.call(fail)
    return made


def test_a_call_passes_arguments_and_result_through() -> None:
    assert Breaker("layer").call(max, 1, 2) == 2
    assert Breaker("layer").state == "closed"


def test_an_exception_is_counted_and_the_default_returned() -> None:
    made = Breaker("layer")
    assert made.call(fail, default="instead") == "instead"
    assert (made.failures, made.last_error, made.state) == (1, "ValueError", "closed")
    assert "secret" not in str(made.to_dict())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_belongs_to_the_program_passes_uncounted(kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind

    made = Breaker("layer")
    with pytest.raises(kind):
        made.call(leave)
    assert made.failures == 0


def test_ten_failures_in_a_row_open_it_and_nine_do_not() -> None:
    made = Breaker("layer")
    for _ in range(OPENS_AT - 1):
        made.call(fail)
    assert made.call(lambda: "ran") == "ran"
    for _ in range(OPENS_AT - 1):
        made.call(fail)
    assert made.state == "closed"
    made.call(fail)
    assert made.state == "open"
    assert made.call(lambda: "ran", default="not run") == "not run"


def test_after_a_minute_one_trial_is_made_and_closes_it() -> None:
    made = open_breaker()
    advance(RETRY_SECONDS - 1)
    assert made.call(lambda: "ran") is None
    advance(1)
    assert made.state == "half-open"
    assert made.call(lambda: "ran") == "ran"
    assert (made.state, made.failures) == ("closed", 0)


def test_a_failed_trial_keeps_it_open_for_another_minute() -> None:
    made = open_breaker()
    advance(RETRY_SECONDS)
    made.call(fail)
    assert made.state == "open"
    advance(RETRY_SECONDS - 1)
    assert made.state == "open"


def test_there_is_one_trial_at_a_time() -> None:
    made = open_breaker()
    advance(RETRY_SECONDS)
    inside = made.call(lambda: made.call(lambda: "second trial", default="refused"))
    assert inside == "refused"


def test_a_trial_that_never_returns_is_replaced_by_another() -> None:
    made = open_breaker()
    advance(RETRY_SECONDS)

    def hang() -> str:
        advance(RETRY_SECONDS)
        return str(made.call(lambda: "ran"))

    assert made.call(hang) == "ran"


def test_a_late_success_from_before_it_opened_does_not_close_it() -> None:
    made = Breaker("layer")
    made.call(lambda: open_breaker("layer"))
    assert made.state == "open"


def test_the_same_layer_has_the_same_breaker() -> None:
    assert Breaker("layer") is Breaker("layer")
    assert Breaker("other") is not Breaker("layer")
    assert [each.layer for each in breakers()] == ["layer", "other"]


def test_the_listener_is_told_of_each_change_and_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool]] = []

    def listen(layer: str, is_open: bool) -> None:
        told.append((layer, is_open))
        raise RuntimeError

    monkeypatch.setattr(breaker, "listener", listen)
    made = open_breaker()
    advance(RETRY_SECONDS)
    made.call(fail)
    advance(RETRY_SECONDS)
    made.call(int)
    assert told == [("layer", True), ("layer", False)]


def test_failures_in_many_threads_are_all_counted() -> None:
    made = Breaker("layer")

    def work() -> None:
        for _ in range(2000):
            made._failed("ValueError", False)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert made.failures == 8000


def test_a_signal_handler_may_use_a_breaker_while_its_lock_is_held() -> None:
    ran = []
    was = signal.signal(signal.SIGUSR1, lambda *_: ran.append(Breaker("layer").call(int)))
    try:
        with breaker._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
            Breaker("layer").call(fail)
    finally:
        signal.signal(signal.SIGUSR1, was)
    assert ran == [0]


def test_a_child_forked_while_a_thread_holds_the_lock_is_not_stuck() -> None:
    code = """
import os, threading
from fastalloc import breaker
held, done = threading.Event(), threading.Event()
def hold():
    with breaker._lock:
        held.set(); done.wait()
thread = threading.Thread(target=hold); thread.start(); held.wait()
pid = os.fork()
if not pid:
    breaker.Breaker("layer").call(lambda: 1 / 0)
    os._exit(breaker.Breaker("layer").failures)
status = os.waitpid(pid, 0)[1]
done.set(); thread.join()
assert os.waitstatus_to_exitcode(status) == 1
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=30)


class Machine(RuleBasedStateMachine):
    """Against a model: failures in a row, and when it opened."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker("layer")
        self.breaker._succeeded(True)
        self.in_a_row = 0
        self.retry_at: float | None = None

    def lets_through(self) -> bool:
        return self.retry_at is None or clock >= self.retry_at

    @rule()
    def succeed(self) -> None:
        wanted = "ran" if self.lets_through() else "default"
        assert self.breaker.call(lambda: "ran", default="default") == wanted
        if wanted == "ran":
            self.in_a_row, self.retry_at = 0, None

    @rule()
    def fail(self) -> None:
        through = self.lets_through()
        assert self.breaker.call(fail, default="default") == "default"
        if through:
            self.in_a_row += 1
            if self.in_a_row >= OPENS_AT:
                self.retry_at = clock + RETRY_SECONDS

    @rule()
    def fail_often(self) -> None:
        for _ in range(OPENS_AT):
            self.fail()

    @precondition(lambda self: self.retry_at is not None)
    @rule()
    def wait(self) -> None:
        advance(RETRY_SECONDS / 2)

    @invariant()
    def agrees(self) -> None:
        state = "closed" if self.retry_at is None else "open"
        if state == "open" and self.lets_through():
            state = "half-open"
        assert (self.breaker.state, self.breaker.failures) == (state, self.in_a_row)


class TestMachine(Machine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
