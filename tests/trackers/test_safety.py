"""What must not happen: a tracker's failure, or its absence, in the program."""

from __future__ import annotations

import json

import pytest

from fastalloc import config
from fastalloc.trackers import TRACKERS


@pytest.fixture(scope="module")
def failing(answer_of) -> dict:
    pytest.importorskip("django")
    return answer_of("failing_calls")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_fails_is_switched_off_alone_and_the_program_does_not_notice(
    failing, name: str
) -> None:
    told = failing["trackers"][name]
    assert told["opened"] == [name]
    assert told["results"] == failing["results_alone"] and told["same_each_time"]
    assert told["queries_run"] == [failing["queries_alone"]]


def test_what_the_others_find_is_there_beside_one_that_fails(failing) -> None:
    found = set(failing["digests"])
    assert found == {"queries", "models", "global_scopes", "sessions", "admin"}
    for name, told in failing["trackers"].items():
        if name != "queries":  # without its sections there is nothing of a query to tell
            assert set(told["digests"]) == found - {name}, name


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("all", "all"),
        ("none", "none"),
        ("models, queries", "queries,models"),
        (["caches", "admin"], "admin,caches"),
    ],
)
def test_the_option_names_trackers(given: object, value: str) -> None:
    assert config.check({"trackers": given}) == {"trackers": value}


@pytest.mark.parametrize("given", ["query", "all,queries", "", 3, []])
def test_a_wrong_name_is_an_error_that_tells_the_right_ones(given: object) -> None:
    with pytest.raises(config.ConfigError, match="trackers: "):
        config.check({"trackers": given})


def test_only_the_trackers_asked_for_leave_digests(answer_of) -> None:
    pytest.importorskip("django")
    told = answer_of("chosen_calls", "models")
    assert told["digests"] == ["models"] and told["sections"] == ["models"]
    told = answer_of("chosen_calls", "none")
    assert told["digests"] == [] and told["sections"] == []
    assert not told["is_hooked"]


def test_requests_that_are_not_looked_at_leave_nothing(answer_of) -> None:
    pytest.importorskip("django")
    told = answer_of("chosen_calls", "all", "light")
    assert told["digests"] == []
    assert json.dumps(told["running"]) == "0"


def test_a_request_that_grows_large_is_looked_at_from_then_on(answer_of) -> None:
    pytest.importorskip("django")
    told = answer_of("chosen_calls", "queries", "light", "growing")
    assert told["digests"] == ["queries"]
    assert told["queries"] == 20  # all that came after it had grown
