"""A process with a dict that grows, in aggressive mode; what its dump says of it."""

from __future__ import annotations

import json
import sys
import time

import fastalloc
from fastalloc import requests

answers: dict[int, str] = {}


def main(folder: str) -> None:
    from fastalloc.trackers import caches

    caches.STEP_EVERY_SECONDS, caches.SWEEP_SECONDS = 0.02, 0.0
    fastalloc.start(mode="aggressive", dir=folder)
    answers.update((n, "x" * 100) for n in range(100))
    requests.begin("GET /").end()
    for _ in range(400):
        time.sleep(0.01)
        if caches._sweeps.finished == 1:
            answers.update((n, "x" * 100) for n in range(5000))
        if caches._sweeps.finished > 2:
            break
    dump = fastalloc.read(fastalloc.write_dump()).dump
    fastalloc.stop()
    json.dump({"caches": dump["trackers"]["caches"]}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
