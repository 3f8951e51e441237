"""Programs that the kernel kills for memory, each in a way of its own, and what post-mortem says.

    python -m tests.end_to_end.oom_kills --times 10

kills each of them so often in a real memory cgroup and prints in how many the guilty span and line
were named, and in how many the guard's dump was complete. Numbers differ a little from one kill to
the next, so that no two are alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fastalloc.analysis.machine import Machine
from fastalloc.analysis.post_mortem import examine
from fastalloc.demo.cgroup import MemoryCgroup

MIB = 1 << 20
TIMEOUT_SECONDS = 120
GUILTY_SPAN = "GET /guilty/"
MARK = "# the line"

BEGIN = """
import fastalloc, random, threading, time

fastalloc.start()
seed = random.Random(SEED)
kept = []
with fastalloc.phase("preload"):
    cache = [bytes(seed.randrange(500, 2000)) for _ in range(10_000)]  # innocent: 12 MiB

def innocent():
    with fastalloc.span("GET /innocent/"):
        return [bytes(1000) for _ in range(2000)]
"""

PROGRAMS = {
    "slowly": """
def guilty():
    kept.extend(bytes(seed.randrange(200, 3000)) for _ in range(150))  # the line

while True:
    innocent()
    with fastalloc.span("GET /guilty/"):
        guilty()
    time.sleep(0.002)
""",
    "one jump": """
def guilty():
    kept.append(b"x" * (200 << 20))  # the line

for _ in range(seed.randrange(50, 200)):
    innocent()
    time.sleep(0.002)
with fastalloc.span("GET /guilty/"):
    guilty()
""",
    "native": """
import mmap
import numpy

def guilty():
    kept.append(numpy.ones(seed.randrange(20_000, 200_000)))  # the line

while True:
    innocent()
    with fastalloc.span("GET /guilty/"):
        guilty()
    time.sleep(0.002)
""",
    "threads": """
def guilty():
    kept.append([bytearray(seed.randrange(100, 5000)) for _ in range(100)])  # the line

def work():
    while True:
        innocent()
        with fastalloc.span("GET /guilty/"):
            guilty()
        time.sleep(0.01)

threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
    "gunicorn": """
from fastalloc.integrations.wsgi import WSGIMiddleware

def guilty():
    kept.extend(bytes(seed.randrange(200, 3000)) for _ in range(800))  # the line

def site(environ, start_response):
    if environ["PATH_INFO"] == "/guilty/":
        guilty()
    else:
        innocent()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

application = WSGIMiddleware(site, name=lambda environ: f"GET {environ['PATH_INFO']}")
""",
}
LIMITS = {"slowly": 96, "one jump": 160, "native": 128, "threads": 128, "gunicorn": 192}
OPTIONS = {"native": {"FASTALLOC_NATIVE": "1"}}


class Verdict(NamedTuple):
    """What post-mortem said of one kill."""

    kind: str
    killed: bool
    """The kernel killed, as it was meant to."""
    ending: str
    certainty: str
    span: str
    line: str
    wanted_line: str
    dumps: int
    complete_dumps: int
    certainty_without_log: str
    """What would have been said where the kernel's log may not be read, as in most containers."""

    @property
    def told_right(self) -> bool:
        """The guilty span and line came first, and memory was named as the reason."""
        return (self.ending, self.span, self.line) == (
            "out_of_memory",
            GUILTY_SPAN,
            self.wanted_line,
        )


def kill(kind: str, folder: Path, seed: int) -> Verdict:
    """Let one program be killed, with its files in `folder`, and ask post-mortem."""
    source = (BEGIN + PROGRAMS[kind]).replace("SEED", str(seed))
    script = folder / "victim.py"
    script.write_text(source)
    recordings = folder / "recordings"
    recordings.mkdir(mode=0o700)
    limit = LIMITS[kind] * MIB + random.Random(seed).randrange(16 * MIB)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("FASTALLOC_")},
        "FASTALLOC_DIR": str(recordings),
        **OPTIONS.get(kind, {}),
    }
    with MemoryCgroup(limit) as group:
        run = _serve_until_killed if kind == "gunicorn" else _run_until_killed
        run(script, group, environment)
        killed = group.oom_kills() > 0
        report = post_mortem(recordings)
        without_log = examine(recordings, machine=Machine(kernel_log=Path("/nonexistent")))
    unlogged = [death.ending for death in without_log.deaths if death.ending.is_bad]
    number = next(n for n, text in enumerate(source.splitlines(), 1) if MARK in text)
    died = [death for death in report["deaths"] if death["is_bad"]]
    death = died[0] if died else None
    dumps = [Path(path) for path in death["dumps"]] if death else []
    return Verdict(
        kind,
        killed,
        death["ending"] if death else "",
        death["certainty"] if death else "",
        death["spans"][0]["key"] if death and death["spans"] else "",
        death["lines"][0]["key"] if death and death["lines"] else "",
        f"{script}:{number}",
        len(dumps),
        sum(_is_complete(dump) for dump in dumps),
        f"{unlogged[0].kind} {unlogged[0].certainty}" if unlogged else "",
    )


def _is_complete(dump: Path) -> bool:
    """A dump whose recording can be read and whose state.json is whole."""
    from fastalloc.recording.reader import read

    with suppress(ValueError, OSError):
        snapshot = read(dump)
        return "error" not in snapshot.dump and len(snapshot.live) > 0
    return False


def post_mortem(folder: Path) -> Any:
    """What `fastalloc post-mortem --json` says of a folder."""
    command = [sys.executable, "-m", "fastalloc", "post-mortem", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def _run_until_killed(script: Path, group: MemoryCgroup, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        preexec_fn=group.enter,
        check=False,
        timeout=TIMEOUT_SECONDS,
        capture_output=True,
    )


def _serve_until_killed(script: Path, group: MemoryCgroup, environment: dict[str, str]) -> None:
    """gunicorn with three preforked workers; requests until the kernel has killed one."""
    log = script.parent / "log"
    command = ["gunicorn", "--preload", "--workers", "3", "--bind", "127.0.0.1:0", "victim"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=script.parent,
            env=environment,
            preexec_fn=group.enter,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        port = None
        while port is None and time.monotonic() < deadline and server.poll() is None:
            found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text())
            port = int(found[1]) if found and "Booting worker" in log.read_text() else None
            time.sleep(0.02)
        assert port, log.read_text()
        while not group.oom_kills() and time.monotonic() < deadline and server.poll() is None:
            for path in ("innocent", "guilty"):
                with (
                    suppress(OSError),
                    urllib.request.urlopen(
                        f"http://127.0.0.1:{port}/{path}/", timeout=10
                    ) as answer,
                ):
                    answer.read()
        time.sleep(0.2)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> int:
    """Kill each program `--times` times, and print what came of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--only", choices=PROGRAMS)
    args = parser.parse_args()
    verdicts = []
    for kind in [args.only] if args.only else PROGRAMS:
        for seed in range(args.times):
            with tempfile.TemporaryDirectory() as folder:
                verdict = kill(kind, Path(folder), seed)
            verdicts.append(verdict)
            if not verdict.told_right:
                print("wrong:", verdict, flush=True)
        own = [verdict for verdict in verdicts if verdict.kind == kind]
        print(
            f"{kind:<10} killed {sum(v.killed for v in own)}/{len(own)}, "
            f"told right {sum(v.told_right for v in own)}, "
            f"certainty {dict(Counter(v.certainty for v in own))}, "
            f"without the log {dict(Counter(v.certainty_without_log for v in own))}, "
            f"with a complete dump {sum(v.complete_dumps > 0 for v in own)}",
            flush=True,
        )
    right = sum(verdict.told_right for verdict in verdicts)
    dumped = sum(verdict.complete_dumps > 0 for verdict in verdicts)
    print(f"all        told right {right}/{len(verdicts)}, with a complete dump {dumped}")
    return 0 if right == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
