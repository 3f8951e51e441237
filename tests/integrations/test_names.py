"""Methods are known ones, and there is an end of names."""

from __future__ import annotations

from fastalloc.integrations._names import MAX_NAMES, Names, method_name, unnamed


def test_only_known_methods_are_named() -> None:
    assert method_name("get") == "GET"
    assert method_name("HELO 1.2.3.4") == "(other)"


def test_names_end() -> None:
    names = Names()
    given = {names.bounded(f"GET /{n}") for n in range(MAX_NAMES + 50)}
    assert len(given) == MAX_NAMES + 1
    assert names.bounded("POST /new") == "POST (other)"
    assert names.bounded("GET /3") == "GET /3"


def test_names_of_methods_and_routes_end_too() -> None:
    names = Names()
    for _ in range(2):  # what was given before is ready
        given = {names.of("GET", f"/{n}") for n in range(MAX_NAMES + 50)}
        assert len(given) == MAX_NAMES + 1
        assert names.of("get", "/3") == "GET /3"
        assert names.of("POST", "/3") == "POST (other)"
        assert names.of("HELO 1.2.3.4", "/3") == "(other) (other)"


def test_a_request_without_a_route_is_called_by_its_method() -> None:
    assert [unnamed(method) for method in ("GET", "get", "HELO 1.2.3.4", "")] == [
        *["GET (no route)"] * 2,
        *["(other) (no route)"] * 2,
    ]
