"""Which requests are chosen, by the numbers."""

from __future__ import annotations

import pytest

from fastalloc.requests.choice import Choice
from tests.core.programs import Programs


@pytest.mark.parametrize("percent", [0.5, 1, 20, 99])
def test_as_many_are_drawn_as_the_percentage_says(percent: float) -> None:
    """The number of requests up to one that is drawn has mean 1/p and variance (1-p)/p**2. The mean of
    20,000 draws is within five standard errors of it, which fails one seed in a million."""
    p, draws = percent / 100, 20_000
    choice = Choice(seed=7)
    mean = sum(choice.draw(percent) + 1 for _ in range(draws)) / draws
    assert abs(mean - 1 / p) < 5 * ((1 - p) / p**2 / draws) ** 0.5


def test_none_and_all() -> None:
    choice = Choice(seed=7)
    assert {choice.draw(100) for _ in range(100)} == {0}
    assert min(choice.draw(0) for _ in range(100)) > 10**15
    assert min(choice.draw(1e-12) for _ in range(100)) > 1000


def test_another_percentage_holds_from_the_next_request_on(programs: Programs) -> None:
    answer = programs.run(
        """
import fastalloc
from fastalloc import requests
from tests.core.inside import answer
fastalloc.start(request_percent=0)
reasons = []
def request():
    one = requests.begin("GET /same")
    reasons.append(one.chosen)
    one.end()
request(), request()
fastalloc.configure({"request_percent": 100})
request(), request()
fastalloc.configure({"request_percent": 0})
request()
answer(reasons=reasons)
"""
    ).answer
    assert answer == {"reasons": ["route", "", "lot", "lot", ""]}
