"""What goes through detours, looked at and not: printed for test_detours.py."""

from __future__ import annotations

import contextvars
import inspect
import pickle
import sys
import threading
import traceback
import types
from unittest import mock

from fastalloc import requests
from fastalloc.trackers import work
from tests.trackers.looking import answer, start


class Shop:
    def sell(self, *names, **prices):
        """Sell."""
        return ["original", *names, *prices.items()]

    def break_down(self):
        raise ValueError("broken")

    def read(self):
        return "original"

    def __iter__(self):
        return iter(["original"])


def detailed(self, *names, **prices):
    return ["detailed", *names, *prices.items()]


Shop.sell = work.detour(Shop.sell, detailed)
Shop.break_down = work.detour(Shop.break_down, detailed)
Shop.read = work.detour(Shop.read, lambda self: "detailed", anywhere=True)
Shop.__iter__ = work.detour(Shop.__iter__, lambda self: iter(["detailed"]))


def calls() -> dict[str, object]:
    shop = Shop()
    bound = shop.sell
    return {
        "method": shop.sell("tea", milk=2),
        "bound": bound("tea", milk=2),
        "of_the_class": Shop.sell(shop, "tea", milk=2),
        "by_its_call": Shop.sell.__call__(shop, "tea", milk=2),
        "by_its_types_call": type(Shop.sell).__call__(Shop.sell, shop, "tea", milk=2),
        "by_tuple": shop.sell(*("tea",), **{"milk": 2}),
        "slot": list(shop),
    }


def mocked() -> bool:
    """Whether a mock of the method is given the object, as it is in place of a function."""
    with mock.patch.object(Shop, "sell", autospec=True) as sell:
        shop = Shop()
        shop.sell("tea")
    return sell.call_args == mock.call(shop, "tea")


def elsewhere() -> list[object]:
    """In a thread, which is in no request."""
    said: list[object] = []
    shop = Shop()
    thread = threading.Thread(
        target=contextvars.Context().run, args=(lambda: said.extend([shop.read(), shop.sell()[0]]),)
    )
    thread.start()
    thread.join()
    return said


def broken() -> list[str]:
    try:
        Shop().break_down()
    except ValueError as error:
        return [f.name for f in traceback.extract_tb(error.__traceback__)]
    return []


def interrupted() -> list[str]:
    """While a route is asked for, the program is told to stop."""

    def route_of() -> str:
        raise KeyboardInterrupt

    request = requests.begin("GET (no route)", named=False, route_of=route_of)
    try:
        Shop().sell()
    except KeyboardInterrupt as error:
        return [type(error).__name__]
    finally:
        request.rename("GET /interrupted/")
        request.end()
    return []


def main(folder: str) -> None:
    told: dict[str, object] = {"before": calls(), "broken": broken()}
    start(folder, mode="light", request_percent=0, trackers="queries")
    told["outside"] = calls()
    with_nothing = requests.begin("GET /")
    with_nothing.end()  # the first of its route is looked at
    request = requests.begin("GET /")
    told["not_looked_at"], told["elsewhere_before"] = calls(), elsewhere()
    request.force()
    told["looked_at"], told["elsewhere"] = calls(), elsewhere()
    request.end()
    told["after"], told["elsewhere_after"] = calls(), elsewhere()
    told["interrupted"] = interrupted()
    told["like_a_function"] = [
        Shop.sell.__name__,
        Shop.sell.__doc__,
        Shop.sell.__code__.co_name,
        isinstance(Shop().sell, types.MethodType),
        inspect.isfunction(Shop.sell),
        str(inspect.signature(Shop.sell)),
        mocked(),
        pickle.loads(pickle.dumps(Shop.sell)) is Shop.sell,
    ]
    answer(**told)


if __name__ == "__main__":
    main(*sys.argv[1:])
