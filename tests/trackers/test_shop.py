"""The shop's five scenarios: the guilty query, manager, session or stage is named with its bytes."""

from __future__ import annotations

import json

import pytest

import fastalloc

pytest.importorskip("django")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases(answer_of) -> dict:
    return answer_of("shop_calls")


def test_session_bloat(cases) -> None:
    case = cases["session"]
    session = case["sessions"]
    largest, *_ = session["largest"]
    assert largest == "permissions_cache"
    assert session["largest"][largest] > 0.9 * session["size_bytes"] > 80_000
    assert session["load_bytes"] == pytest.approx(cases["alone"]["session load"], rel=0.15)
    assert session["save_bytes"] == pytest.approx(cases["alone"]["session save"], rel=0.15)
    assert session["load_bytes"] + session["save_bytes"] > 0.75 * case["span"]
    assert "shop.product.1.view" not in json.dumps(case)  # a key inside a value


def test_global_scope_explosion(cases) -> None:
    case = cases["scope"]
    (name,) = case["global_scopes"]["scopes"]
    scope = case["global_scopes"]["scopes"][name]
    assert name == "shop.WholeOrder, fastalloc.demo.shop.models.Whole"
    assert scope["adds"] == ["select_related customer", "prefetch_related lines__product"]
    assert scope["bytes"] == pytest.approx(cases["alone"]["scope"], rel=0.15)
    fetched = {label: model["fetched"] for label, model in case["models"]["models"].items()}
    assert fetched["shop.WholeOrder"] == 300 and fetched["shop.OrderLine"] == 1200


def test_repeated_queries(cases) -> None:
    (repeat,) = cases["repeats"]["queries"]["repeats"]
    assert repeat["count"] == 250 and "shop_customer" in repeat["statement"]
    assert "scenarios.py:" in repeat["at"]
    assert cases["repeats"]["queries"]["bytes"] == pytest.approx(
        cases["alone"]["repeats"], rel=0.15
    )
    assert repeat["bytes"] > 0.85 * cases["alone"]["repeats"]


def test_large_result(cases) -> None:
    (large,) = cases["large"]["queries"]["large_results"]
    assert large["largest_rows"] == 12_000 and "shop_orderline" in large["statement"]
    assert large["largest_bytes"] == pytest.approx(cases["alone"]["large"], rel=0.15)
    assert cases["large"]["models"]["models"]["shop.OrderLine"]["fetched"] == 12_000


def test_admin_overhead(cases) -> None:
    add = cases["add"]["admin"]["stages"]
    guilty, *innocent = add
    assert guilty == "foreign-key selects" and set(innocent) == {"forms", "navigation", "page"}
    truth = cases["alone"]["foreign-key selects"]
    assert add[guilty]["bytes"] == pytest.approx(truth, rel=0.15)
    assert add[guilty]["bytes"] > 0.75 * cases["add"]["span"]
    pages = cases["list"]["admin"]["stages"]
    assert set(pages) == {"rows", "change list query", "filters", "page", "navigation"}
    assert pages["rows"]["bytes"] == max(stage["bytes"] for stage in pages.values())
    assert pages["filters"]["queries"] == 1
    assert cases["list"]["admin"]["bytes"] < cases["list"]["span"]


def test_the_innocent_is_not_accused(cases) -> None:
    case = cases["innocent"]
    assert not case["queries"]["repeats"] and not case["queries"]["large_results"]
    assert not {"global_scopes", "admin"} & set(case)


def test_the_recording_names_them_all(cases) -> None:
    snapshot = fastalloc.read(cases["recording"])
    sizes = {
        (str(p["span_name"]), str(p["name"])): int(p["bytes"]) / 2  # each page was asked for twice
        for p in snapshot.phases
    }
    alone = cases["alone"]

    def of(span: str, name: str) -> float:
        found = [
            size
            for (span_name, phase), size in sizes.items()
            if span_name == span and phase.startswith(name)
        ]
        return sum(found)

    assert of("GET /scenarios/session/", "session save") == pytest.approx(
        alone["session save"], rel=0.15
    )
    assert of("GET /scenarios/scope/", "query") == pytest.approx(alone["scope"], rel=0.15)
    assert of("GET /scenarios/repeats/", "query") == pytest.approx(alone["repeats"], rel=0.15)
    assert of("GET /scenarios/large/", "query shop.OrderLine") == pytest.approx(
        alone["large"], rel=0.15
    )
    # In the recording a phase's bytes are without those of phases inside it: here, two queries.
    guilty = of(cases["add"]["route"], "admin foreign-key selects")
    nested = of(cases["add"]["route"], "query shop.Order ")
    assert guilty + nested == pytest.approx(alone["foreign-key selects"], rel=0.2)


def test_the_dump_names_them_all(cases) -> None:
    told = fastalloc.read(cases["dump"]).dump["trackers"]
    repeat = told["queries"]["repeats"][0]
    assert repeat["most_in"] == "GET /scenarios/repeats/"
    assert repeat["most_in_one_request"] == 250
    large = told["queries"]["large_results"][0]
    assert large["largest_rows"] == 12_000
    assert told["sessions"]["backends"]["db"]["largest_bytes"] > 80_000
    assert "permissions_cache" in told["sessions"]["largest"][0]["largest"]
    assert "shop.WholeOrder, fastalloc.demo.shop.models.Whole" in told["global_scopes"]["scopes"]
    assert told["admin"]["boot_bytes"] > 100_000
    route, *_ = told["admin"]["routes"]
    assert route == cases["add"]["route"]
