"""A name never shows a value, and there is an end of names."""

from __future__ import annotations

import pytest

from fastalloc.integrations._names import MAX_NAMES, Names, method_name, route_of_path


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("", ""),
        ("/orders/", "/orders/"),
        ("/orders/17/", "/orders/{id}/"),
        ("/v2/users/7", "/v2/users/{id}"),
        ("/sign-in", "/sign-in"),
        ("/robots.txt", "/robots.txt"),
        ("/.well-known/security.txt", "/.well-known/security.txt"),
        ("/items/123e4567-e89b-12d3-a456-426614174000", "/items/{id}"),
        ("/blobs/deadbeefdeadbeef", "/blobs/{id}"),
        ("/reset/Mg-c3x9-8f2b1a", "/reset/{id}"),
        ("/reset/bWFyeUBleGFtcGxlLm9yZw==", "/reset/{id}"),
        ("/o'brien/søren", "/{id}/{id}"),
        ("/" + "x" * 41, "/{id}"),
        ("/../etc/passwd\n", "/../etc/{id}"),
    ],
)
def test_values_are_taken_out_of_a_path(path: str, route: str) -> None:
    assert route_of_path(path) == route


def test_a_long_path_is_cut() -> None:
    assert len(route_of_path("/word" * 1000)) < 130


def test_only_known_methods_are_named() -> None:
    assert method_name("get") == "GET"
    assert method_name("HELO 1.2.3.4") == "(other)"


def test_names_end() -> None:
    names = Names()
    given = {names.bounded(f"GET /{n}") for n in range(MAX_NAMES + 50)}
    assert len(given) == MAX_NAMES + 1
    assert names.bounded("POST /new") == "POST (other)"
    assert names.bounded("GET /3") == "GET /3"
