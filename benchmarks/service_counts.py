"""Instructions of one request, counted in services that run: `python -m benchmarks service-counts`.

The services of services.py, asked by another process, with valgrind around the one that serves: FastAPI under uvicorn, the
Django shop under the standard library's server, since gunicorn serves in a fork, and valgrind takes no orders there. Time
cannot tell a per cent of a request here (services.py's noise is 1 to 6 %); instructions can, and say what is done, not how
long it takes. Counting begins once each page was asked for many times, and ends before the service does: no start and no
end is in it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import counting, results, services
from benchmarks.interpreters import FOLDER, Interpreter, prepare_all
from benchmarks.profilers import PROFILERS
from benchmarks.services import APPS, Load, Service, ServiceError
from benchmarks.tables import Table

FIRST_ROUNDS, ROUNDS = 20, 20
"""Of all pages: before counting, and counted."""
START_SECONDS = 300.0
HOOKS = "BENCHMARK_HOOKS"
"""Names the hooks of profilers.py that a service of benchmarks.apps installs first."""

SERVERS = {"django": lambda port: ["-m", "benchmarks.apps.serve_shop", str(port)]}
"""Instead of the server that services.py has for it."""
TITLES = {"django": "Django shop, wsgiref", "fastapi": APPS["fastapi"].title}

HOOKED = ("forward", "forward_all")
NAMES = ("none", "control", *HOOKED, "light_0", "light_1", "light_100")
"""What is counted: variants of services.py, and rows of profilers.py."""


def _control(pid: int, *arguments: str) -> None:
    done = subprocess.run(
        ["callgrind_control", *arguments, str(pid)], capture_output=True, text=True
    )
    if done.returncode or done.stdout.startswith("Error"):  # which it says with status 0
        raise ServiceError(f"callgrind_control: {done.stderr.strip() or done.stdout.strip()}")


@contextmanager
def _serving(interpreter: Interpreter, app: str, name: str, scratch: Path) -> Iterator[Service]:
    """A service under valgrind, which counts nothing yet."""
    valgrind = (
        *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
        *(f"--callgrind-out-file={scratch}/counts.%p", f"--log-file={scratch}/valgrind.%p"),
    )
    environ = services.variables("none" if name in HOOKED else name, scratch, 1)
    if name in HOOKED:
        environ[HOOKS] = name
    command = SERVERS.get(app, APPS[app].command)
    with services.running(interpreter, valgrind, command, environ, scratch, 60) as service:
        service.wait(START_SECONDS)
        yield service


def _dumped(scratch: Path, pid: int) -> int:
    """Instructions of the dump that was asked for. It is written a moment after the command has ended."""
    path = scratch / f"counts.{pid}.1"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told = path.read_text() if path.exists() else ""
        if found := re.search(r"^totals: (\d+)$", told, re.MULTILINE):
            return int(found[1])
        time.sleep(0.1)
    raise ServiceError("callgrind has dumped nothing")


def count(interpreter: Interpreter, app: str, name: str, rounds: int = ROUNDS) -> float:
    """Instructions of a request, the mean over all pages."""
    pages = APPS[app]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=FOLDER)))
        if app == "django":
            services.populate(interpreter, scratch)
        load = stack.enter_context(Load(None))
        service = stack.enter_context(_serving(interpreter, app, name, scratch))
        load.send(service, pages, FIRST_ROUNDS * len(pages.paths))
        if name not in HOOKED and not services.VARIANTS[name].proof(service):
            raise ServiceError("it saw none of the requests")
        pid = service.processes()[-1]
        _control(pid, "--instr=on")
        # Once more: what is in flight when it is switched on is not counted whole.
        load.send(service, pages, len(pages.paths))
        _control(pid, "--zero")
        load.send(service, pages, rounds * len(pages.paths))
        _control(pid, "--dump")
        return _dumped(scratch, pid) / (rounds * len(pages.paths))


def run(interpreter: Interpreter, names: Sequence[str] = NAMES) -> Path:
    """Count all variants of all services, and save."""
    counts: dict[str, dict[str, float]] = {app: {} for app in APPS}
    failed: dict[str, str] = {}
    for app in APPS:
        for name in names:
            try:
                counts[app][name] = count(interpreter, app, name)
            except (ServiceError, OSError) as error:
                failed[f"{app}, {name}"] = str(error)
                print(f"{interpreter.label}: {app}: {name} FAILED: {error}", file=sys.stderr)
    return results.save("service-counts", interpreter, {"counts": counts, "failed": failed})


def table(documents: list[dict[str, Any]]) -> Table:
    """A row per service and variant: millions of instructions of none, the ratio to it of the others."""
    shown = Table(
        "Instructions of a request",
        ["", *(d["interpreter"]["label"] for d in documents)],
        note="Of the process that serves, over that of none; none: millions. The services as above, each page "
        f"{ROUNDS} times after {FIRST_ROUNDS} times; under valgrind a request takes many times as long, so what the recorder "
        "does once a second counts for more than it would.",
    )
    for app, service in TITLES.items():
        for name in NAMES:
            row = [f"{service}: {(PROFILERS if name in HOOKED else services.VARIANTS)[name].title}"]
            for document in documents:
                found = document["counts"].get(app, {})
                if name not in found or "none" not in found:
                    row.append("failed" if f"{app}, {name}" in document["failed"] else "-")
                elif name == "none":
                    row.append(f"{found[name] / 1e6:.2f} M")
                else:
                    row.append(f"{found[name] / found['none']:.4f}")
            if any(cell != "-" for cell in row[1:]):
                shown.rows.append(row)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks service-counts", description=__doc__
    )
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--variants", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args(arguments)
    if missing := counting.missing():
        print(missing, file=sys.stderr)
        return 2
    for interpreter in prepare_all(options.python):
        run(interpreter, options.variants)
    table(results.load("service-counts")).show()
    return 0
