"""What must not happen: a tracker's failure, or its absence, in the program."""

from __future__ import annotations

import json

import pytest

from fastalloc import config


def test_a_tracker_that_fails_is_not_noticed_and_switched_off(answer_of) -> None:
    pytest.importorskip("django")
    told = answer_of("failing_calls")
    assert told["results"] == told["results_alone"]
    assert told["states"] == {
        "tracker queries": "open",
        "tracker sessions": "closed",
    }
    assert told["digests"] == []
    assert told["queries_run"] == told["queries_alone"]


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
    assert (
        12 <= told["queries"] < 20
    )  # asked at every eighth hook; each query passes through several
