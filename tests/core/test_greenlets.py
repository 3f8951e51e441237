"""A greenlet counts for the span it is in, whichever greenlet runs in between."""

from __future__ import annotations

import pytest

from tests.core.programs import Programs
from tests.core.scopes import records, run


def test_greenlets_count_for_the_span_they_are_in(programs: Programs) -> None:
    pytest.importorskip("greenlet")
    snapshot = run(
        programs,
        """
import greenlet
def request(n):
    with span(f"greenlet {n}"):
        for _ in range(4):
            blocks(n)
            hub.switch()
            with phase("inner"):
                blocks(1)
                hub.switch()
hub = greenlet.getcurrent()
with span("hub"):
    running = [greenlet.greenlet(request) for _ in range(1, 9)]
    for n, each in enumerate(running, 1): each.switch(n)
    while running:
        blocks(1)
        running = [each for each in running if not each.dead]
        for each in running: each.switch()
assert greenlet.gettrace() is not None
""",
    )
    got = records(snapshot)
    hub = got.pop("hub")
    assert got == {f"greenlet {n}": [4 * n + 4] for n in range(1, 9)}
    assert hub == [9]


def test_greenlets_own_tracer_stays_called(programs: Programs) -> None:
    pytest.importorskip("greenlet")
    done = programs.run(
        """
        import greenlet
        import fastalloc
        from tests.core.inside import answer
        seen = []
        greenlet.settrace(lambda event, switched: seen.append(event))
        fastalloc.start()
        with fastalloc.span("first"): pass
        other = greenlet.greenlet(lambda: None)
        other.switch()
        answer(seen=seen)
        """
    )
    assert done.answer["seen"] == ["switch", "switch"]
