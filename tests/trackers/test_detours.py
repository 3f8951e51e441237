"""Detours: where they lead, and that nobody notices them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def told(answer_of) -> dict:
    return answer_of("detour_calls")


@pytest.mark.parametrize("when", ["before", "outside", "not_looked_at", "after"])
def test_they_lead_to_the_original_while_no_request_is_looked_at(told, when: str) -> None:
    _all_led_to(told[when], "original")


def test_they_lead_away_in_a_request_that_is_looked_at(told) -> None:
    _all_led_to(told["looked_at"], "detailed")


def _all_led_to(calls: dict, where: str) -> None:
    assert calls.pop("slot") == [where]
    assert set(calls) == {
        *("method", "bound", "of_the_class", "by_tuple", "by_its_call", "by_its_types_call")
    }
    assert all(said == [where, "tea", ["milk", 2]] for said in calls.values())


def test_another_thread_is_led_away_only_where_that_is_asked_for(told) -> None:
    assert told["elsewhere_before"] == told["elsewhere_after"] == ["original", "original"]
    assert told["elsewhere"] == ["detailed", "original"]


def test_an_error_of_the_original_has_no_frame_of_ours(told) -> None:
    assert told["broken"] == ["broken", "break_down"]


def test_an_interrupt_while_they_ask_is_the_programs(told) -> None:
    assert told["interrupted"] == ["KeyboardInterrupt"]


def test_they_are_asked_as_the_function_is(told) -> None:
    assert told["like_a_function"] == [
        *("sell", "Sell.", "sell", True, True, "(self, *names, **prices)", True, True)
    ]
