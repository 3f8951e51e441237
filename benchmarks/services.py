"""Services under load, with and without profilers: `python -m benchmarks services`.

The demo's Django shop under gunicorn, and a FastAPI application under uvicorn, each as one process that serves; what
sends the requests is another (service_load.py), on a CPU of its own where there are two. In a launch all variants run
at once, and take turns in an order drawn anew each time. A turn is a closed loop, which tells how many requests the
service can answer, then a fixed rate, the same for all: RATE_PART of what the service answers without a profiler. CPU
time per request is that of all processes and threads of the service during the fixed rate, exports and clocks included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import lot, ratios, results
from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment, prepare_all
from benchmarks.tables import Table
from benchmarks.turns import last_line, said

RATE_PART = 0.3
TURNS = 4
TURN_SECONDS = 2.0
FIRST_REQUESTS = 60
WARM_UP_SECONDS = 1.0
"""Of requests after the first ones: what is done once is done then, and how fast it is can be told."""
START_SECONDS = 60.0


LIMITS = (20, 60)
"""Orders on a page. Those of 40 that are stored live in 700 objects, at which Python collects garbage: once in four requests
without a profiler, in nearly each one where anything at all keeps a few objects more, and that takes 30 to 50 % more time.
So pages well below, which hardly ever come to it, and pages above, which do in nearly each request: in light as in none."""


class ServiceError(Exception):
    """A service failed; says how."""


@dataclass(frozen=True)
class App:
    """A service: the arguments of `python` that serve it at a port, and the pages that are asked for."""

    title: str
    command: Callable[[int], list[str]]
    paths: tuple[str, ...]


APPS = {
    "django": App(
        "Django shop, gunicorn",
        lambda port: [
            *("-m", "gunicorn", "--workers", "1", "--bind", f"127.0.0.1:{port}"),
            *("--log-level", "warning", "--no-control-socket", "benchmarks.apps.shop_wsgi"),
        ],
        (
            "/",
            "/orders/?page={n}",
            "/orders/{n}/",
            "/customers/{n}/",
            "/api/products.json",
            "/export/orders.csv",
        ),
    ),
    "fastapi": App(
        "FastAPI, uvicorn",
        lambda port: [
            *("-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
            *("--log-level", "warning", "benchmarks.apps.fastapi_service:application"),
        ],
        tuple(f"/{page}/?limit={limit}" for limit in LIMITS for page in ("orders", "stored")),
    ),
}


@dataclass(frozen=True)
class Variant:
    """A profiler as one would run it in production. `proof` tells whether it saw the requests of the warm-up."""

    title: str
    variables: Mapping[str, str] = field(default_factory=dict)
    package: str = ""
    runner: str = ""
    """A command of the environment that runs the service."""
    apps: tuple[str, ...] = tuple(APPS)
    proof: Callable[[Service], bool] = lambda service: True


def _fastalloc(percent: int) -> Variant:
    return Variant(
        f"fastalloc light, trackers at {percent} %",
        {"FASTALLOC_MODE": "light", "FASTALLOC_REQUEST_PERCENT": str(percent)},
        proof=lambda service: any((service.scratch / "recordings").iterdir()),
    )


def _hooked_by_ddtrace(service: Service) -> bool:
    return "memalloc" in Path(f"/proc/{service.processes()[-1]}/maps").read_text()


def _stored_by_silk(service: Service) -> bool:
    with sqlite3.connect(service.scratch / "shop.sqlite3") as connection:
        return bool(connection.execute("SELECT count(*) FROM silk_request").fetchone()[0])


VARIANTS = {
    "none": Variant("none"),
    "control": Variant("none, again (the noise)"),
    "light_0": _fastalloc(0),
    "light_1": _fastalloc(1),
    "light_100": _fastalloc(100),
    "ddtrace": Variant(
        "ddtrace-run, profiling",
        {
            "DD_PROFILING_ENABLED": "true",
            "DD_TRACE_ENABLED": "false",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
        },
        package="ddtrace",
        runner="ddtrace-run",
        proof=_hooked_by_ddtrace,
    ),
    "silk": Variant(
        "django-silk",
        {"SHOP_SILK": "1"},
        package="django-silk",
        apps=("django",),
        proof=_stored_by_silk,
    ),
}


class Service:
    """One running variant of a service, with a folder of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int, scratch: Path) -> None:
        self.process, self.port, self.scratch = process, port, scratch

    def processes(self) -> list[int]:
        """The one that was started, and its children: the last one serves."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def log(self) -> str:
        """What it has written."""
        return (self.scratch / "log").read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Of all its processes so far. The number of the clock is made as clock_getcpuclockid(3) does, which Python
        has for threads only; /proc counts in hundredths of a second."""
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.processes())

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until it accepts connections; so long at most."""
        until = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None or time.monotonic() > until:
                raise ServiceError(said(self.process.poll() or 0, self.log()))
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)


class Load:
    """The process that sends requests. A context manager."""

    def __init__(self, cpu: int | None) -> None:
        self.process = subprocess.Popen(
            [*_pin(cpu), sys.executable, "-m", "benchmarks.service_load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, service: Service, app: App, count: int, rate: float = 0) -> dict[str, Any]:
        """`count` requests; ServiceError if one was not answered well."""
        assert self.process.stdin and self.process.stdout
        order = {"port": service.port, "paths": app.paths, "count": count, "rate": rate}
        self.process.stdin.write(json.dumps(order) + "\n")
        answer = json.loads(self.process.stdout.readline())
        if answer["failed"]:
            raise ServiceError(f"{'; '.join(answer['failed'])}: {last_line(service.log())}")
        return dict(answer)


def _pin(cpu: int | None) -> list[str]:
    return [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]


def variables(name: str, scratch: Path, seed: int) -> dict[str, str]:
    """The environment of a variant whose files are in `scratch`."""
    own = {"FASTALLOC_DIR": str(scratch / "recordings")} if name.startswith("light") else {}
    return environment(
        PYTHONHASHSEED=str(seed),
        PYTHONPATH=str(ROOT),
        DJANGO_SETTINGS_MODULE="benchmarks.apps.shop_settings",
        SHOP_DATABASE=str(scratch / "shop.sqlite3"),
        SHOP_SECRET_KEY="only for this benchmark",
        SHOP_ADMIN_PASSWORD="only for this benchmark",
        **{lot.VARIABLE: f"{name} {seed}"},
        **VARIANTS[name].variables,
        **own,
    )


@contextmanager
def _serving(
    interpreter: Interpreter, app: str, name: str, scratch: Path, seed: int, cpu: int | None
) -> Iterator[Service]:
    """Start a variant; ended on exit, with all its processes."""
    variant, own = VARIANTS[name], variables(name, scratch, seed)
    if name == "silk":
        _run(interpreter, ["-m", "django", "migrate", "silk", "--verbosity", "0"], own)
    runner = [str(interpreter.python.parent / variant.runner)] if variant.runner else []
    before = [*_pin(cpu), *runner]
    with running(interpreter, before, APPS[app].command, own, scratch) as service:
        yield service


@contextmanager
def running(
    interpreter: Interpreter,
    before: Sequence[str],
    command: Callable[[int], list[str]],
    environ: Mapping[str, str],
    scratch: Path,
    end_seconds: float = 10,
) -> Iterator[Service]:
    """A service at a free port, with `before` in front of the interpreter; given so long to end, on exit."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (scratch / "log").open("w") as output:
        process = subprocess.Popen(
            [*before, str(interpreter.python), *command(port)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Service(process, port, scratch)
    finally:
        process.terminate()
        try:
            process.wait(end_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def populate(interpreter: Interpreter, folder: Path, seed: int = 1) -> None:
    """Make the Django shop's database in `folder`."""
    _run(interpreter, ["-m", "fastalloc.demo.shop.populate"], variables("none", folder, seed))


def _run(interpreter: Interpreter, arguments: Sequence[str], environ: dict[str, str]) -> None:
    done = subprocess.run(
        [str(interpreter.python), *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServiceError(said(done.returncode, done.stderr))


def launch(
    interpreter: Interpreter,
    app: str,
    names: Sequence[str],
    seed: int,
    turns: int = TURNS,
    turn_seconds: float = TURN_SECONDS,
) -> dict[str, Any]:
    """Start all variants, and let them take turns. By variant and turn: CPU seconds of a request, requests a second,
    and milliseconds of each request at the fixed rate; `failed`: why, by variant."""
    cpus = sorted(os.sched_getaffinity(0))
    serving_cpu, sending_cpu = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    order, failed = random.Random(seed), {}
    pages = APPS[app]
    services: dict[str, Service] = {}
    turned: dict[str, list[dict[str, Any]]] = {}
    FOLDER.mkdir(parents=True, exist_ok=True)

    def whole(count: float) -> int:
        """Rounds of the pages, so that all turns ask for the same."""
        return len(pages.paths) * max(1, round(count / len(pages.paths)))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=FOLDER)))
        if app == "django":
            populate(interpreter, folder, seed)
        load = stack.enter_context(Load(sending_cpu))

        def warm_up(name: str) -> float:
            """Start it; requests a second."""
            scratch = folder / name
            scratch.mkdir()
            if app == "django":
                shutil.copy(folder / "shop.sqlite3", scratch)
            service = stack.enter_context(
                _serving(interpreter, app, name, scratch, seed, serving_cpu)
            )
            service.wait()
            first = load.send(service, pages, whole(FIRST_REQUESTS))
            count = whole(WARM_UP_SECONDS * len(first["milliseconds"]) / first["seconds"])
            answer = load.send(service, pages, count)
            if not VARIANTS[name].proof(service):
                raise ServiceError("it saw none of the requests")
            services[name], turned[name] = service, []
            return count / float(answer["seconds"])

        speed = warm_up("none")
        for name in names:
            if name != "none":
                try:
                    warm_up(name)
                except (ServiceError, OSError) as error:
                    failed[name] = str(error)
        rate = RATE_PART * speed

        for _ in range(turns):
            for name in order.sample(list(services), len(services)):
                service = services[name]
                try:
                    closed = load.send(service, pages, whole(speed * turn_seconds / 2))
                    count = whole(rate * turn_seconds / 2)
                    before = service.cpu_seconds()
                    fixed = load.send(service, pages, count, rate)
                    cpu = (service.cpu_seconds() - before) / count
                except (ServiceError, OSError) as error:
                    if name == "none":
                        raise
                    failed[name] = str(error)
                    del services[name], turned[name]
                    continue
                turned[name].append(
                    {
                        "cpu_seconds": cpu,
                        "per_second": len(closed["milliseconds"]) / closed["seconds"],
                        "milliseconds": [round(each, 3) for each in fixed["milliseconds"]],
                    }
                )
    return {"rate": rate, "turns": turned, "failed": failed}


def run(interpreter: Interpreter, minutes: float) -> Path:
    """Measure launches of each application until the time is up, one at least, and save."""
    until = time.monotonic() + 60 * minutes
    launches: dict[str, list[dict[str, Any]]] = {app: [] for app in APPS}
    lasted = dict.fromkeys(APPS, 0.0)
    number = 0
    while number == 0 or time.monotonic() + sum(lasted.values()) < until:
        number += 1
        for app in APPS:
            names = [
                name
                for name, variant in VARIANTS.items()
                if app in variant.apps
                and (not variant.package or variant.package in interpreter.packages)
            ]
            began = time.monotonic()
            found = launch(interpreter, app, names, number)
            lasted[app] = time.monotonic() - began
            launches[app].append(found)
            for name, why in found["failed"].items():
                print(f"{interpreter.label}: {app}: {name} FAILED: {why}", file=sys.stderr)
    return results.save("services", interpreter, {"launches": launches})


def _cells(launches: list[dict[str, Any]], name: str) -> list[str]:
    """CPU time, latency and requests a second of one variant."""
    failed = [each["failed"][name] for each in launches if name in each["failed"]]
    if failed:
        return [f"failed: {last_line(failed[0])}", "-", "-", "-"]
    turns = [turn for each in launches for turn in each["turns"].get(name, [])]
    if not turns:
        return ["-"] * 4
    seconds = {
        which: [[t["cpu_seconds"] for t in each["turns"].get(which, [])] for each in launches]
        for which in (name, "none", "control")
    }
    ratio = ratios.compare(seconds[name], ratios.base(seconds, name))
    if name == "none" or ratio is None:
        every = [turn["cpu_seconds"] for turn in turns]
        told = f"{1000 * statistics.median(every):.2f} ms"
    else:
        told = f"{ratio.mean:.3f} ({ratio.low:.3f}-{ratio.high:.3f}) ± {ratio.error:.3f}"
    taken = sorted(each for turn in turns for each in turn["milliseconds"])
    percentiles = statistics.quantiles(taken, n=100, method="inclusive")
    speed = statistics.median(turn["per_second"] for turn in turns)
    return [told, f"{percentiles[49]:.2f}", f"{percentiles[98]:.2f}", f"{speed:.0f}"]


def table(documents: list[dict[str, Any]]) -> Table:
    """A row per service and variant."""
    parts = ("CPU per request", "p50, ms", "p99, ms", "requests/s")
    conditions = "; ".join(
        f"{document['interpreter']['label']}, {APPS[app].title}: "
        f"{statistics.median(each['rate'] for each in launches):.0f} requests/s, "
        f"{sum(len(t['milliseconds']) for each in launches for t in each['turns']['none'])} of each variant, in "
        f"{len(launches)} launch{'es' * (len(launches) > 1)}"
        for document in documents
        for app, launches in document["launches"].items()
        if launches
    )
    shown = Table(
        "Services under load",
        ["", *(f"{d['interpreter']['label']}: {part}" for d in documents for part in parts)],
        note="CPU per request and latency at a fixed rate, "
        f"{100 * RATE_PART:.0f} % of what none can answer; requests/s: closed-loop, four connections. CPU: none in ms, "
        "the others over the turns of both without a profiler beside it, geometric mean of the launches' medians (without the highest and the lowest fifth), quartiles and one standard error. fastalloc with its defaults. "
        "Of 1 % a median shows little: most turns have no request that is looked at. ddtrace's profiler with its "
        "defaults (stacks, locks, memory), without its tracer, telemetry and remote configuration, and no agent "
        "answers its uploads. django-silk as installed: it keeps each request. " + conditions + ".",
    )
    for app, service in APPS.items():
        for name, variant in VARIANTS.items():
            if app in variant.apps:
                row = [f"{service.title}: {variant.title}"]
                for document in documents:
                    row += _cells(document["launches"].get(app, []), name)
                shown.rows.append(row)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks services", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--minutes", type=float, default=4, help="of each interpreter (4)")
    options = parser.parse_args(arguments)
    for interpreter in prepare_all(options.python, peers=("ddtrace",)):
        run(interpreter, options.minutes)
    table(results.load("services")).show()
    return 0
