"""Run CPython's own tests without and with recording, and report the tests that end differently.

    tools/test-cpython                                  all modules, all modes, this environment's Python
    tools/test-cpython --quick                          three modules, the modes light and targeted
    tools/test-cpython --modes light test_asyncio
    tools/test-cpython --python .venv-3.13/bin/python   another one, in which tools/test-pythons built the core
    tools/test-cpython --match '*test_terminate' --repeats 20 test_multiprocessing_spawn

Each module runs in a process of its own, in an environment made for this that holds nothing but fastalloc. It
starts by itself in every Python that inherits the variables, so the programs that a test starts are recorded too;
in mode "run" the module runs under `fastalloc run`.

A test that ends differently, and none that known.toml explains, is run again, some times with and some times
without. DIFFERENT: it ended in one way with, in another way without, each time. UNSTEADY: it did not, and the
counts say how often it failed. Exit status 1 when there is a DIFFERENT one.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "cpython"

MODULES = (
    *(
        "test_dict",
        "test_list",
        "test_unicode",
        "test_str",
        "test_json",
        "test_re",
        "test_gc",
        "test_pickle",
    ),
    *(
        "test_ctypes",
        "test_threading",
        "test_thread",
        "test_fork1",
        "test_wait3",
        "test_wait4",
        "test_subprocess",
    ),
    *(
        "test__xxsubinterpreters",
        "test_interpreters",
        "test_capi",
        "test_asyncio",
        "test_multiprocessing_fork",
    ),
    *(
        "test_multiprocessing_forkserver",
        "test_multiprocessing_spawn",
        "test_multiprocessing_main_handling",
    ),
)
QUICK = ("test_dict", "test_gc", "test_fork1")

# Small tables: hundreds of processes are started, each with a recording of its own.
EVERYTHING = {"FASTALLOC_MODE": "targeted", "FASTALLOC_SCALE": "1"}
MODES: dict[str, dict[str, str]] = {
    "light": {"FASTALLOC_MODE": "light"},
    "targeted": EVERYTHING,
    "native": {"FASTALLOC_MODE": "light", "FASTALLOC_NATIVE": "1"},
    "run": {},
}
NONE = "none"
HUNG = "hung or crashed"

# Some builds install the tests of multiprocessing without the modules that choose how a process starts.
STARTS = ("fork", "forkserver", "spawn")
START_MODULE = """import unittest
import test._test_multiprocessing
test._test_multiprocessing.install_tests_in_module_dict(globals(), {start!r})
if __name__ == "__main__":
    unittest.main()
"""

Outcomes = dict[str, str]
"""Name of a test -> passed, failed or skipped; what has no name of its own is under the module's."""


class Suite:
    """The tests of one interpreter."""

    def __init__(self, python: Path, scratch: Path, timeout: float, match: list[str]) -> None:
        self.scratch, self.timeout, self.match = scratch, timeout, match
        self.python = self._environment(python)
        self.recordings, self.logs = scratch / "recordings", scratch / "logs"
        self.made = scratch / "made"
        self.logs.mkdir(exist_ok=True)

    def _environment(self, python: Path) -> Path:
        """An environment with nothing but what `python` imports as fastalloc, started by a .pth file:
        neither -I nor -E keeps Python from reading it."""
        ask = (
            "import platform, sys, fastalloc._core, fastalloc; print("
            "sys._base_executable, platform.python_version(), "
            "fastalloc.__path__[0], sep='\\n')"
        )
        found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
        base, self.version, package = found.stdout.splitlines()
        folder = self.scratch / "environment"
        subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        start = "import os; 'FASTALLOC_MODE' in os.environ and __import__('fastalloc')"
        (site / "fastalloc.pth").write_text(f"{Path(package).parent}\n{start}\n")
        return folder / "bin" / "python"

    def has(self, module: str) -> bool:
        """Whether this version has that module; one of multiprocessing's is made if it is missing."""
        if self._finds(module):
            return True
        start = module.removeprefix("test_multiprocessing_")
        if start not in STARTS or not self._finds("_test_multiprocessing"):
            return False
        self.made.mkdir(exist_ok=True)
        # By a name of its own: regrtest looks for a folder of the real one.
        (self.made / f"test_by_{start}.py").write_text(START_MODULE.format(start=start))
        return True

    def _finds(self, module: str) -> bool:
        code = f"import importlib.util as u, sys; sys.exit(u.find_spec('test.{module}') is None)"
        return subprocess.run([self.python, "-c", code]).returncode == 0

    def check(self, mode: str) -> None:
        """Make sure that `mode` records: what records nothing differs in nothing."""
        code = "import fastalloc; s = fastalloc.status(); print(s.mode if s.active else s.reason)"
        command = [
            self.python,
            *(("-m", "fastalloc", "run", "--quiet") if mode == "run" else ()),
            "-c",
            code,
        ]
        done = subprocess.run(command, env=self._variables(mode), capture_output=True, text=True)
        if done.stdout.strip() not in ("light", "targeted"):
            sys.exit(f"mode {mode} does not record: {done.stdout}{done.stderr}")

    def _variables(self, mode: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC", "PYTHON"))}
        if mode == NONE:
            return kept
        return kept | MODES[mode] | {"FASTALLOC_DIR": str(self.recordings)}

    def run(self, module: str, mode: str, match: list[str] | None = None) -> Outcomes:
        """Run one module in one mode."""
        shutil.rmtree(self.recordings, ignore_errors=True)
        result = self.scratch / "result.xml"
        result.unlink(missing_ok=True)
        command = [str(self.python), "-m"]
        if mode == "run":
            command += ["fastalloc", "run", "--quiet", "--mode", "light", "-m"]
        command += ["test", "-v", "--junit-xml", str(result), f"--timeout={self.timeout:.0f}"]
        made = module.replace("test_multiprocessing_", "test_by_")
        if (self.made / f"{made}.py").exists():
            command += ["--testdir", str(self.made)]
        else:
            made = module
        for pattern in match or self.match:
            command += ["-m", pattern]
        with (self.logs / f"{module}-{mode}.log").open("a") as log:
            process = subprocess.Popen(
                [*command, made],
                cwd=self.scratch,
                env=self._variables(mode),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                status = process.wait(self.timeout + 30)
            except subprocess.TimeoutExpired:
                status = -signal.SIGKILL
            try:  # a hung test's children as well
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        outcomes = read_result(result) if result.exists() else {module: f"{HUNG} ({status})"}
        if not outcomes and not (match or self.match):
            outcomes = {module: "skipped" if status == 0 else f"exit status {status}"}
        return outcomes


def read_result(path: Path) -> Outcomes:
    """The outcome of each test in a junit file; of one that is there more than once, the worst."""
    found: Outcomes = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        bad = kinds & {"failure", "error"} or case.get("result") not in (
            None,
            "completed",
            "skipped",
        )
        outcome = "failed" if bad else "skipped" if "skipped" in kinds else "passed"
        name = case.get("name", "")
        found[name] = "failed" if found.get(name) == "failed" else outcome
    return found


def known(name: str, mode: str, version: str) -> str | None:
    """Why `name` may end differently in `mode` of that Python."""
    with (HERE / "known.toml").open("rb") as file:
        entries = tomllib.load(file).get("test", [])
    for entry in entries:
        concerned = mode in entry.get("modes", MODES) and version in entry.get("pythons", version)
        if concerned and fnmatch.fnmatch(name, entry["name"]):
            return str(entry["reason"])
    return None


def differing(without: Outcomes, recorded: Outcomes) -> list[str]:
    """Names of the tests that ended differently; one missing on one side differs."""
    names = [*without, *(name for name in recorded if name not in without)]
    return [name for name in names if without.get(name) != recorded.get(name)]


def again(
    suite: Suite, module: str, mode: str, names: list[str], repeats: int
) -> dict[str, tuple[list[str], list[str]]]:
    """What each of `names` ends in, `repeats` times without and with, in turns."""
    found: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in names}
    patterns = [] if module in names else names
    for _ in range(repeats):
        for side, which in enumerate((NONE, mode)):
            outcomes = suite.run(module, which, patterns)
            missing = next((o for o in outcomes.values() if o.startswith(HUNG)), "not run")
            for name in names:
                found[name][side].append(outcomes.get(name, missing))
    return found


def count(outcomes: list[str]) -> str:
    """Outcomes and how often."""
    return ", ".join(f"{n} {outcome}" for outcome, n in collections.Counter(outcomes).most_common())


def report(name: str, mode: str, without: list[str], recorded: list[str]) -> bool:
    """Print one line; whether the test ends differently for sure."""
    steady = len({*without}) == len({*recorded}) == 1
    if steady and without[0] == recorded[0]:
        word = "SAME when repeated"
    else:
        word = "DIFFERENT" if steady else "UNSTEADY"
    print(
        f"  {word} {mode}: {name}: without: {count(without)}; with: {count(recorded)}", flush=True
    )
    return word == "DIFFERENT"


def compare(suite: Suite, modules: list[str], modes: list[str], repeats: int) -> int:
    """Run all, print what differs; how many tests do."""
    different = 0
    for module in modules:
        began = time.monotonic()
        without = suite.run(module, NONE)
        line = [
            f"{len(without)} tests, {count(list(without.values()))}; seconds: none {time.monotonic() - began:.0f}"
        ]
        if any(outcome.startswith(HUNG) for outcome in without.values()):
            print(f"{module}: {HUNG} without recording: nothing to compare with", flush=True)
            different += 1
            continue
        pending: list[tuple[str, list[str]]] = []
        for mode in modes:
            began = time.monotonic()
            names = differing(without, suite.run(module, mode))
            line.append(f"{mode} {time.monotonic() - began:.0f}")
            pending.append((mode, names))
        print(f"{module}: {', '.join(line)}", flush=True)
        for mode, names in pending:
            reasons = {name: known(name, mode, suite.version) for name in names}
            for name, reason in reasons.items():
                if reason:
                    print(f"  KNOWN {mode}: {name}: {reason}", flush=True)
            unknown = [name for name, reason in reasons.items() if not reason]
            if unknown:
                for name, sides in again(suite, module, mode, unknown, repeats).items():
                    different += report(name, mode, *sides)
    return different


def count_failures(suite: Suite, modules: list[str], modes: list[str], repeats: int) -> None:
    """How often each matched test fails, in turns."""
    tallies: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    for _ in range(repeats):
        for module in modules:
            for mode in (NONE, *modes):
                for name, outcome in suite.run(module, mode).items():
                    tallies[name].setdefault(mode, []).append(outcome)
    for name, by_mode in sorted(tallies.items()):
        print(f"{name}: " + "; ".join(f"{mode}: {count(found)}" for mode, found in by_mode.items()))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="tools/test-cpython",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "modules",
        nargs="*",
        metavar="MODULE",
        help="tests, such as test_dict (default: see the source)",
    )
    parser.add_argument("--modes", help=f"some of {','.join(MODES)} (default: all)")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="a Python that imports fastalloc"
    )
    parser.add_argument("--quick", action="store_true", help="a few modules, under a minute")
    parser.add_argument(
        "--match",
        action="append",
        default=[],
        help="only tests that match; counts how often they fail",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="of a test that ended differently, or of --match (3)"
    )
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds that a module may take (600)"
    )
    options = parser.parse_args()
    modes = (
        options.modes.split(",")
        if options.modes
        else ["light", "targeted"]
        if options.quick
        else [*MODES]
    )
    for mode in modes:
        if mode not in MODES:
            parser.error(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=BUILD))
    suite = Suite(options.python, scratch, options.timeout, options.match)
    modules = [m for m in options.modules or (QUICK if options.quick else MODULES) if suite.has(m)]
    if missing := set(options.modules) - set(modules):
        parser.error(f"this Python has no {', '.join(sorted(missing))}")
    for mode in modes:
        suite.check(mode)
    if options.match:
        count_failures(suite, modules, modes, options.repeats)
        different = 0
    else:
        different = compare(suite, modules, modes, options.repeats)
        print(
            f"{different} differ, or could not be compared"
            if different
            else "no test ends differently"
        )
    if different:
        print(f"logs: {suite.logs}")
    else:
        shutil.rmtree(scratch)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
