"""Sessions: names of keys without data in them, bounded measuring, Flask's and Starlette's cookies."""

from __future__ import annotations

import json
import time

import pytest

from fastalloc.trackers.sessions import LARGEST_KEYS, _sizes, shown


@pytest.mark.parametrize("name", ["cart", "_auth_user_id", "permissions_cache", "wizard.step-2"])
def test_names_of_a_program_are_told(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    "name", ["cart_of_1234567", "ann@example.com", "x" * 65, "with space", "4711", ""]
)
def test_names_that_may_be_data_are_hashed(name: str) -> None:
    told = shown(name)
    assert told.startswith("(key #") and (not name or name not in told)
    assert told == shown(name)


def test_sizes_are_those_of_serialized_values() -> None:
    session = {"small": 1, "large": ["x" * 10] * 100}
    told = _sizes(session, json.dumps)
    assert told["largest"] == {"large": len(json.dumps(session["large"])), "small": 1}
    assert told["size_bytes"] == sum(told["largest"].values()) + len("smalllarge")
    assert told["not_measured"] == 0


def test_measuring_ends_in_time_and_tells_what_is_left() -> None:
    def slow(value: object) -> str:
        time.sleep(0.002)
        return "x"

    told = _sizes({f"key_{'a' * n}": n for n in range(50)}, slow)
    assert told["keys"] == 50 and 40 < told["not_measured"] < 50
    assert len(told["largest"]) <= LARGEST_KEYS


def test_flask_and_starlette_sessions(answer_of) -> None:
    pytest.importorskip("flask")
    pytest.importorskip("starlette")
    pytest.importorskip("itsdangerous")
    cases = answer_of("session_calls")
    for name in ("flask", "starlette"):
        session = cases[name]["sessions"]
        assert next(iter(session["largest"])) == "cart", name
        assert 1000 < session["size_bytes"] < 2000, name
        assert "hunter2" not in json.dumps(cases[name]), name
    assert cases["vary"] == cases["vary_without"]
