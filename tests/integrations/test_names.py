"""Methods are known ones, and there is an end of names."""

from __future__ import annotations

from fastalloc.integrations._names import MAX_NAMES, Names, method_name


def test_only_known_methods_are_named() -> None:
    assert method_name("get") == "GET"
    assert method_name("HELO 1.2.3.4") == "(other)"


def test_names_end() -> None:
    names = Names()
    given = {names.bounded(f"GET /{n}") for n in range(MAX_NAMES + 50)}
    assert len(given) == MAX_NAMES + 1
    assert names.bounded("POST /new") == "POST (other)"
    assert names.bounded("GET /3") == "GET /3"
