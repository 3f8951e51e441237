"""How numbers are printed."""

from __future__ import annotations

import pytest

from fastalloc.cli import output


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (-1536, "-1.5 KiB"),
        (9 << 20, "9.0 MiB"),
        (2**70, "1024.0 EiB"),
    ],
)
def test_bytes_get_a_unit(count: float | None, text: str) -> None:
    assert output.format_bytes(count) == text


def test_an_unknown_limit_is_not_zero_bytes() -> None:
    assert output.format_known_bytes(0) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0123, "12 ms"),
        (59.94, "59.9 s"),
        (61, "1 min 1 s"),
        (7322, "2 h 2 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert output.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/env/lib/python3.11/site-packages/django/db.py:3", "django/db.py:3"),
        ("/usr/lib/python3.11/json/decoder.py:3", "json/decoder.py:3"),
        ("/app/orders.py:10", "/app/orders.py:10"),
    ],
)
def test_paths_lose_what_all_of_them_share(path: str, text: str) -> None:
    assert output.shorten_path(path) == text


def test_only_losses_that_happened_are_named() -> None:
    assert output.describe_losses({"live": 0, "deep_stack": 1200}) == "deep stack 1,200"
