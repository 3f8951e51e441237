"""Sends requests: `python -m benchmarks.load PORT PATH`. Imports nothing of what is measured.

For each line with a number on stdin, sends so many GET requests over four connections that stay
open, at most one at a time on each, and answers "N answered" when all had status 200.
"""

from __future__ import annotations

import http.client
import sys
import time
from concurrent.futures import ThreadPoolExecutor

CONNECTIONS = 4
START_SECONDS = 30.0


class Client:
    """One connection."""

    def __init__(self, port: int, path: str) -> None:
        self.path = path
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, count: int) -> int:
        """Send `count` requests, one after the other; gives how many were answered well."""
        good = 0
        for _ in range(count):
            self.connection.request("GET", self.path)
            response = self.connection.getresponse()
            good += response.status == 200 and len(response.read()) > 1000
        return good

    def wait(self) -> None:
        """Until the server answers."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get(1)
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                self.connection.close()
                time.sleep(0.05)


def main(port: int, path: str) -> None:
    """Serve stdin."""
    clients = [Client(port, path) for _ in range(CONNECTIONS)]
    clients[0].wait()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for line in sys.stdin:
            wanted = int(line)
            shares = [
                wanted // CONNECTIONS + (n < wanted % CONNECTIONS) for n in range(CONNECTIONS)
            ]
            answered = sum(pool.map(Client.get, clients, shares))
            print(f"{answered} answered", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
