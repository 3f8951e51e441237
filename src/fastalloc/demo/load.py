"""The demo's load: a fixed mix of requests, of which one kind bloats."""

from __future__ import annotations

import http.client
import re
import threading
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THREADS = 3
TIMEOUT_SECONDS = 15.0

# One round. {n} counts up, so that each statement is one of another customer.
MIX = (
    "/",
    "/orders/?page={n}",
    "/orders/{n}/",
    "/reports/statements/{n}/",
    "/customers/{n}/",
    "/admin/shop/order/",
    "/api/products.json",
    "/orders/{n}/",
    "/reports/statements/{n}/",
    "/export/orders.csv",
    "/admin/shop/customer/?q={n}",
)
BLOATING = "/reports/statements/"
CUSTOMERS = 400  # as many as shop/populate.py makes: {n} starts again after them


@dataclass
class Tally:
    """What became of the requests."""

    sent: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0  # no whole response: the worker died under it
    bloating: int = 0  # of the kind that bloats, answered
    seconds: float = 0.0


def login(port: int, password: str) -> str:
    """Sign in as "admin", as a browser does; gives the Cookie header of the session."""
    _, headers, _ = request(port, "GET", "/admin/login/", {})
    token = SimpleCookie(headers.get("Set-Cookie", ""))["csrftoken"].value
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
    status, headers, _ = request(
        port,
        "POST",
        "/admin/login/?next=/admin/",
        {"Cookie": f"csrftoken={token}", "Content-Type": "application/x-www-form-urlencoded"},
        urlencode(form),
    )
    found = re.search(r"sessionid=[^;]+", ", ".join(headers.get_all("Set-Cookie") or []))
    if status != 302 or not found:
        raise RuntimeError(f"could not sign in to the demo's admin: status {status}")
    return found[0]


def request(
    port: int, method: str, path: str, headers: dict[str, str], body: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def drive(
    port: int,
    cookie: str,
    requests: int,
    until: Callable[[Tally], bool],
    progress: Callable[[int], None] = lambda sent: None,
    mix: Sequence[str] = MIX,
) -> Tally:
    """Send the mix from a few threads until `requests` are sent or `until` says so."""
    tally = Tally()
    lock = threading.Lock()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with lock:
                if tally.sent >= requests:
                    return
                number = tally.sent
                tally.sent += 1
            path = path_of(number, mix)
            try:
                status, _, _ = request(port, "GET", path, {"Cookie": cookie})
            except (OSError, http.client.HTTPException):
                with lock:
                    tally.lost += 1
                time.sleep(0.05)  # the server has to notice, too
            else:
                with lock:
                    tally.statuses[status] = tally.statuses.get(status, 0) + 1
                    tally.bloating += path.startswith(BLOATING)
            progress(number + 1)
            if until(tally):
                over.set()

    started = time.monotonic()
    threads = [threading.Thread(target=work, name=f"load-{n}") for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.seconds = time.monotonic() - started
    return tally


def path_of(number: int, mix: Sequence[str] = MIX) -> str:
    """The path of the load's request number `number`. No two statements are of one customer."""
    rounds, place = divmod(number, len(mix))
    bloating = f"{BLOATING}{{n}}/"
    count = rounds * mix.count(bloating) + mix[:place].count(bloating)
    return mix[place].format(n=count % CUSTOMERS + 1)
