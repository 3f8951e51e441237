"""The interpreters that are measured: each gets an environment of its own, built when needed.

Environments, scratch files and results live in build/benchmarks, which is not tracked.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "benchmarks"
SOURCES = ("src", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")

BUILD = ("setuptools>=77", "Cython>=3.1")
WORKLOADS = (
    "pyperformance",
    "pyperf",
    "numpy",
    "pandas",
    "django",
    "fastapi",
    "uvicorn",
    "gunicorn",
    "django-silk",
    "sqlalchemy",
    "greenlet",  # SQLAlchemy's asyncio stands on it
    "aiosqlite",
    "pillow",
    "lxml",
    "protobuf",
    "zstandard",
    "rich",
)
PEERS = ("memray", "ddtrace", "pyroscope-io", "scalene", "filprofiler")

# What could change what is measured, and belongs to the caller's shell, not to the benchmark.
FOREIGN = ("PYTHON", "FASTALLOC_", "DD_", "LD_PRELOAD", "MALLOC_", "GLIBC_TUNABLES")

# `python -c COMPILE source folder`
COMPILE = """
import pathlib, subprocess, sys, sysconfig
get, source = sysconfig.get_config_var, pathlib.Path(sys.argv[1])
target = pathlib.Path(sys.argv[2]) / (source.stem + get("EXT_SUFFIX"))
flags = ["-O2", "-fPIC", "-shared", "-I" + sysconfig.get_path("include")]
subprocess.run([*get("CC").split(), *flags, str(source), "-o", str(target)], check=True)
"""

DESCRIBE = """
import json, os, platform, sys, sysconfig
arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
try:
    distribution = platform.freedesktop_os_release().get("ID", "")
except OSError:
    distribution = ""
# Debian builds with `make profile-opt`, which leaves no trace in sysconfig.
by_debian = sys.base_prefix == "/usr" and distribution in ("debian", "ubuntu")
print(json.dumps({
    "version": platform.python_version(),
    "optimized": "--enable-optimizations" in arguments or by_debian,
    "by_debian": by_debian,
    "identity": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "compiler": platform.python_compiler(),
}))
"""


@dataclass
class Interpreter:
    """One CPython with everything installed that is measured on it."""

    python: Path
    version: str
    optimized: bool
    """Built with profile-guided optimization (PGO), as distributions do."""
    by_debian: bool
    compiler: str
    identity: str
    packages: dict[str, str] = field(default_factory=dict)
    revision: str = ""
    """The commit that fastalloc was built from; "+" and a digest when sources were changed since."""
    missing: list[str] = field(default_factory=list)
    """Peers that could not be installed here."""

    @property
    def label(self) -> str:
        """How results name it: "3.11.2 PGO+LTO (Debian)" or "3.13.0 no PGO"."""
        if self.by_debian:
            return f"{self.version} PGO+LTO (Debian)"
        return f"{self.version} {'PGO' if self.optimized else 'no PGO'}"

    @property
    def tag(self) -> str:
        """Its name in file names."""
        digest = hashlib.sha256(self.identity.encode()).hexdigest()[:6]
        return f"{self.version}-{'pgo' if self.optimized else 'plain'}-{digest}"

    def to_dict(self) -> dict[str, object]:
        """What results say of it: no path."""
        kept = asdict(self)
        for name in ("python", "identity"):
            del kept[name]
        return {**kept, "label": self.label, "tag": self.tag}


def environment(**extra: str) -> dict[str, str]:
    """The variables that measured processes see: the caller's without FOREIGN, and `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # numpy's threads wait by spinning: time and instructions that nobody asked for
    return {**kept, "OPENBLAS_NUM_THREADS": "1", **extra}


def answer(
    interpreter: Interpreter,
    module: str,
    *arguments: object,
    seed: int,
    seconds: float,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The JSON object that a program of ours prints last, or {"failed": why}. It may take so many seconds."""
    try:
        done = subprocess.run(
            [str(interpreter.python), "-m", module, *map(str, arguments)],
            cwd=ROOT,
            env=environment(PYTHONHASHSEED=str(seed), **variables),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer in {seconds} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        return {"failed": f"exit status {done.returncode}: {said[-1][:200] if said else 'silent'}"}
    return dict(json.loads(lines[-1]))


def describe(python: str | Path) -> Interpreter:
    """Ask an interpreter what it is; nothing is installed."""
    run = subprocess.run(
        [str(python), "-c", DESCRIBE], env=environment(), capture_output=True, text=True, check=True
    )
    return Interpreter(Path(python), **json.loads(run.stdout))


def distinct(pythons: Iterable[str | Path]) -> list[Interpreter]:
    """The builds among them, those with PGO first; one named twice, or by an environment of it, counts once."""
    found: dict[str, Interpreter] = {}
    for python in pythons:
        interpreter = describe(python)
        if interpreter.tag in found:
            _say(f"{python} is the same build as {found[interpreter.tag].python}: measured once")
        found.setdefault(interpreter.tag, interpreter)
    return sorted(found.values(), key=lambda each: not each.optimized)


def absent_build(interpreters: Iterable[Interpreter]) -> str:
    """Which kind of build is not among them, and so misses on the page; "" when both kinds are there."""
    kinds = {each.optimized for each in interpreters}
    if kinds == {True, False}:
        return ""
    return f"no build {'without' if kinds == {True} else 'with'} PGO was named by --python"


def prepare_all(pythons: Iterable[str | Path], peers: Iterable[str] = PEERS) -> list[Interpreter]:
    """`prepare` for each build among them, those with PGO first."""
    return [prepare(each.python, peers) for each in distinct(pythons)]


def prepare(python: str | Path, peers: Iterable[str] = PEERS) -> Interpreter:
    """Make or refresh the environment of `python`: workloads, peers, and fastalloc as it is now."""
    interpreter = describe(python)
    folder = FOLDER / f"venv-{interpreter.tag}"
    interpreter.python = folder / "bin" / "python"
    if not interpreter.python.exists():
        _say(f"{interpreter.label}: making an environment")
        subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
    _locks[folder] = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(_locks[folder], fcntl.LOCK_SH)
    _install(interpreter, [*BUILD, *WORKLOADS], "base")
    for peer in peers:
        try:
            _install(interpreter, [peer], peer)
        except subprocess.CalledProcessError:
            interpreter.missing.append(peer)
            _say(f"{interpreter.label}: {peer} cannot be installed here; its rows will be missing")
    _install_fastalloc(interpreter)
    site = next((folder / "lib").glob("python*/site-packages"))
    source = Path(__file__).with_name("forward.c").stat().st_mtime
    if not any(built.stat().st_mtime > source for built in site.glob("forward.*")):
        compile_extension(interpreter.python, "forward", site)
    interpreter.packages = versions(interpreter.python)
    return interpreter


def compile_extension(python: Path, name: str, folder: str | Path) -> None:
    """Compile benchmarks/<name>.c as an extension of `python`, into `folder`."""
    source = Path(__file__).parent / f"{name}.c"
    command = [str(python), "-c", COMPILE, str(source), str(folder)]
    subprocess.run(command, check=True, env=environment())


def versions(python: Path) -> dict[str, str]:
    """Versions of what is measured."""
    names = ("fastalloc-recorder", *WORKLOADS[:-1], *PEERS)
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    run = subprocess.run(
        [str(python), "-c", code, *names],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(run.stdout))


def _pip(interpreter: Interpreter, *arguments: str) -> None:
    command = [str(interpreter.python), "-m", "pip", "install", "--quiet"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", *arguments], capture_output=True, text=True
    )
    if done.returncode:
        _say(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
        done.check_returncode()


def _install(interpreter: Interpreter, requirements: list[str], name: str) -> None:
    stamp = interpreter.python.parent.parent / f".installed-{name}"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        _pip(interpreter, "--upgrade", *requirements)
        stamp.write_text(wanted)


def _install_fastalloc(interpreter: Interpreter) -> None:
    """From a copy, so that neither a build in place nor an edit during a run gets in the way."""
    files = [
        path
        for name in SOURCES
        for path in sorted([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
        if path.is_file() and path.suffix not in (".so", ".pyc") and path.name != "_core.c"
    ]
    digest = hashlib.sha256()
    for path in files:
        if path == ROOT / "README.md":  # the report writes into it
            continue
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    folder = interpreter.python.parent.parent
    stamp = folder / ".installed-fastalloc"
    known, _, interpreter.revision = (stamp.read_text() if stamp.exists() else "").partition("\n")
    if known == digest.hexdigest():
        return
    if known and not _alone(folder):
        _say(
            f"{interpreter.label}: in use by another run; measuring the fastalloc that it measures"
        )
        return
    _say(f"{interpreter.label}: building fastalloc")
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        for path in files:
            copy = Path(scratch) / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        _pip(interpreter, "--no-build-isolation", "--no-deps", "--force-reinstall", scratch)
    interpreter.revision = _revision(digest.hexdigest())
    stamp.write_text(f"{digest.hexdigest()}\n{interpreter.revision}")
    fcntl.flock(_locks[folder], fcntl.LOCK_SH)


def _revision(digest: str) -> str:
    """The last commit that changed them; with more changes, something of their digest too: two are not the same."""
    git, sources = ["git", "-C", str(ROOT)], sorted({*SOURCES} - {"README.md"})
    done = subprocess.run(
        [*git, "log", "-1", "--format=%h", "--", *sources], capture_output=True, text=True
    )
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", *sources], capture_output=True, text=True
    )
    return (done.stdout.strip() or "an unknown commit") + (
        f"+{digest[:6]}" if changed.stdout.strip() else ""
    )


_locks: dict[Path, int] = {}
"""Descriptors of the environments in use, held until the end of the process."""


def _alone(folder: Path) -> bool:
    """Whether no other run uses the environment; if so, it is locked."""
    try:
        fcntl.flock(_locks[folder], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
