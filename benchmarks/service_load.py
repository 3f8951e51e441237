"""Sends requests to services in turn and times them: `python -m benchmarks.service_load`. Imports nothing of theirs.

Each line of stdin is one order, a JSON object: port, paths (taken in turn; "{n}" counts up), count, and rate: requests
a second at set times, whether or not the service keeps up; 0: closed-loop, each connection sends its next request when
the last one is answered. Answers with one line: seconds it took in all, milliseconds of each request, and failed.
At a rate, a request's time begins when it was due, so that a service that falls behind cannot hide it.
"""

from __future__ import annotations

import http.client
import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CONNECTIONS = 4


def send(port: int, paths: list[str], count: int, rate: float) -> dict[str, Any]:
    """Carry out one order."""
    numbers = itertools.count()  # next() of it is atomic: the connections share it
    taken: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()

    def connection() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (number := next(numbers)) < count:
            due = began + number / rate if rate else time.perf_counter()
            time.sleep(max(0.0, due - time.perf_counter()))
            path = paths[number % len(paths)].format(n=number % 300 + 1)
            try:
                client.request("GET", path)
                response = client.getresponse()
                response.read()
                status = str(response.status)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                client.close()
            if status == "200":
                taken.append(1000 * (time.perf_counter() - due))
            else:
                failures.append(f"{path}: {status}")
        client.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(connection) for _ in range(CONNECTIONS)]:
            done.result()
    return {"seconds": time.perf_counter() - began, "milliseconds": taken, "failed": failures[:3]}


def main() -> None:
    """Serve stdin."""
    for line in sys.stdin:
        print(json.dumps(send(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
