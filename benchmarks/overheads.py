"""What fastalloc costs besides allocations: spans, phases, checkpoints, start-up, memory, forks."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report, results
from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment, prepare

LAUNCHES = 15
MODES = ("standby", "light")


def probe(interpreter: Interpreter, name: str, *arguments: object, **extra: str) -> dict[str, Any]:
    """Run one probe in a fresh process, with bytecode caches as in production."""
    done = subprocess.run(
        [str(interpreter.python), "-m", "benchmarks.probes", name, *map(str, arguments)],
        cwd=ROOT,
        env=environment(PYTHONHASHSEED="1", **extra),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"probe {name} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def medians(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number; of what is no number, the last."""
    return {
        key: statistics.median(answer[key] for answer in answers)
        if isinstance(last, int | float)
        else last
        for key, last in answers[-1].items()
    }


def start(interpreter: Interpreter, scratch: str) -> dict[str, Any]:
    """Import and start, the first launch (which may write bytecode caches) left out."""
    found: dict[str, Any] = {}
    for mode in ("disabled", *MODES):
        answers = [probe(interpreter, "start", mode, scratch) for _ in range(LAUNCHES + 1)]
        found[mode] = medians(answers[1:]) | {
            f"fastest_{key}": min(answer[key] for answer in answers[1:])
            for key in ("import_ms", "start_ms", "cpu_ms")
        }
    return found


def scopes(interpreter: Interpreter, scratch: str) -> dict[str, Any]:
    """Spans, phases, checkpoints."""
    return {
        mode: medians([probe(interpreter, "scopes", mode, scratch) for _ in range(3)])
        for mode in ("disabled", "light")
    }


def sample(interpreter: Interpreter, scratch: str) -> dict[str, Any]:
    """One sample at several stack depths."""
    return medians([probe(interpreter, "sample", "targeted", scratch) for _ in range(3)])


def fork(interpreter: Interpreter, scratch: str) -> dict[str, Any]:
    """Forks with and without."""
    return {
        mode: medians([probe(interpreter, "fork", mode, scratch) for _ in range(3)])
        for mode in ("none", *MODES)
    }


def looks(interpreter: Interpreter, scratch: str) -> dict[str, Any]:
    """At resident memory, and at what is loaded."""
    return medians([probe(interpreter, "looks", "light", scratch) for _ in range(3)])


def memory(interpreter: Interpreter, scratch: str, seconds: float) -> dict[str, Any]:
    """What is touched after a real application served requests."""
    library = Path(scratch) / "mappings.so"
    source = Path(__file__).parent / "mappings.c"
    compiler = shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True
    )
    shop = {"SHOP_SECRET_KEY": secrets.token_hex(), "SHOP_ADMIN_PASSWORD": secrets.token_hex()}
    subprocess.run(
        [str(interpreter.python), "-m", "fastalloc.demo.shop.populate"],
        env=environment(SHOP_DATABASE=f"{scratch}/shop.sqlite3", **shop),
        check=True,
    )
    light = probe(
        interpreter, "memory", "light", scratch, seconds, 0, LD_PRELOAD=str(library), **shop
    )
    none = probe(interpreter, "memory", "none", scratch, 10 * seconds, light["requests"], **shop)
    return {"seconds": seconds, "light": light, "none": none}


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overheads", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--app-seconds", type=float, default=60, help="of the Django app (60)")
    options = parser.parse_args(arguments)
    for python in options.python:
        interpreter = prepare(python, peers=())
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            found: dict[str, Any] = {}
            for probe_all in (start, scopes, sample, fork, looks):
                _say(f"{interpreter.label}: {probe_all.__name__}")
                found[probe_all.__name__] = probe_all(interpreter, scratch)
            _say(f"{interpreter.label}: memory")
            found["memory"] = memory(interpreter, scratch, options.app_seconds)
        path = results.save("overheads", interpreter, found)
        _say(f"results: {path.relative_to(ROOT)}")
    report.show("overheads")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
