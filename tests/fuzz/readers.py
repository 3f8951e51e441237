"""Every way of reading, tried on damaged recordings and dumps: in a process with little memory.

    python -m tests.fuzz.readers --seconds 60

makes damaged files from sound ones, at random, until the time is over. Ends with status 1 at the
first one that a reader answers with anything but a result or an error of its own, and leaves it where
the last line says. With atheris installed, `--guided` lets coverage choose what to change.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

MEMORY_BYTES = 2 << 30
"""Of address space, beyond what the imports take."""
FILE_BYTES = 256 << 20
SECONDS_EACH = 20
"""For all readers together, on one input."""
PID = os.getpid()
"""One that runs: some commands look at no other's recording. That it is theirs the file only claims."""
NAME = f"fastalloc-{PID}-1700000000000.recording"
DUMP = f"dump-{PID}-1700000060000"


def read_in_every_way(folder: Path, commands: int = 99, seed: object = 0) -> int:
    """Call every reader on the recording and the dump in `folder`; returns how many of the two can be
    read. commands: how many of the commands, chosen by `seed` (each takes longer than the reader).

    What they may answer bad input with is RecordingError, in a command status 2. All else comes out.
    """
    from fastalloc.recording.errors import RecordingError
    from fastalloc.recording.reader import read
    from tests.recording.test_damaged import use

    read_well = 0
    for path in (folder / NAME, folder / DUMP):
        try:
            snapshot = read(path)
        except RecordingError:
            continue
        use(snapshot)
        read_well += 1
    every = _commands(folder)
    for command in random.Random(seed).sample(every, min(commands, len(every))):
        _run(command)
    return read_well


def _commands(folder: Path) -> list[list[str]]:
    recording, dump, out = str(folder / NAME), str(folder / DUMP), str(folder / "out.bin")
    of_pid = [str(PID), "--dir", str(folder)]
    return [
        ["status", "--dir", str(folder)],
        ["info", recording],
        ["info", dump, "--json"],
        ["top", recording, "--group", "site"],
        ["export", recording, "-o", out, "--memray-version", "1.20.0"],
        ["export", recording, "-o", out, "--memray-version", "1.20.0", "--kind", "all"],
        ["post-mortem", str(folder)],
        ["post-mortem", str(folder), "--json"],
        ["post-mortem", str(folder), "--log"],
        ["status", *of_pid],
        ["status", *of_pid, "--json"],
        ["flamegraph", recording, "-o", str(folder / "out.html"), "--force"],
        ["dump", *of_pid, "--timeout", "0.01", "--json"],
        ["enable", *of_pid],
        ["disable", *of_pid, "--json"],
        ["prune", str(folder), "--dry-run", "--keep-count", "1"],
    ]


def _run(command: list[str]) -> int:
    from fastalloc.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command)
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
    if status not in (0, 1, 2) or (status == 2 and len(err.getvalue().splitlines()) != 1):
        raise AssertionError(f"{command[0]} ended with {status}: {err.getvalue()}")
    if "--json" in command and status != 2:
        json.loads(out.getvalue())
    return status


# --- damage ------------------------------------------------------------------------------------

EXTREMES = (0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def _claim_to_be_ours(image: bytearray) -> None:
    """Have a recording say that this running process writes it, so that commands go on to ask it."""
    from fastalloc.recording.layout import HEADER

    ticks = int(Path(f"/proc/{PID}/task/{PID}/stat").read_bytes().rpartition(b")")[2].split()[19])
    header = np.frombuffer(image, HEADER, 1)
    for name, value in (("pid", PID), ("process_start_ticks", ticks), ("state", 1)):
        header[name] = value


class Damage:
    """Changes sound files. chance: where every choice comes from."""

    def __init__(self, chance: random.Random, images: list[bytes], states: list[bytes]) -> None:
        self._chance = chance
        self._images, self._states = images, states
        self._used = [
            [offset for offset in range(0, len(image), 4) if any(image[offset : offset + 4])]
            for image in images
        ]

    def recording(self) -> bytes:
        """A damaged recording."""
        number = self._chance.randrange(len(self._images))
        image = bytearray(self._images[number])
        for _ in range(self._chance.choice((1, 1, 2, 3, 8, 40))):
            self._change(image, self._used[number])
        if self._chance.random() < 0.3 and len(image) >= 4096:
            _claim_to_be_ours(image)
        return bytes(image)

    def _change(self, image: bytearray, used: list[int]) -> None:
        chance = self._chance
        at = chance.choice(used) if chance.random() < 0.7 else chance.randrange(len(image) or 1)
        if chance.random() < 0.3:
            at = chance.randrange(0, 1024, 4)  # the header
        what = chance.randrange(6)
        if not image or at >= len(image):
            return
        if what == 0:
            image[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            width = chance.choice((2, 4, 8))
            value = chance.choice(EXTREMES) % (1 << 8 * width)
            image[at : at + width] = value.to_bytes(width, "little")[: len(image) - at]
        elif what == 2:
            value = chance.randrange(64)
            image[at : at + 4] = value.to_bytes(4, "little")[: len(image) - at]
        elif what == 3:  # a piece from elsewhere
            length = chance.choice((4, 8, 64, 512))
            source = chance.choice(used)
            image[at : at + length] = image[source : source + length][: len(image) - at]
        elif what == 4:
            length = chance.choice((16, 256, 4096))
            image[at : at + length] = chance.randbytes(length)[: len(image) - at]
        elif chance.random() < 0.2:
            del image[at:]

    def state(self) -> bytes:
        """A damaged state.json."""
        chance = self._chance
        text = bytearray(chance.choice(self._states))
        for _ in range(chance.choice((0, 1, 3, 10))):
            at = chance.randrange(len(text) or 1)
            what = chance.randrange(5)
            if what == 0:
                text[at : at + 1] = chance.randbytes(1)
            elif what == 1:
                del text[at : at + chance.choice((1, 10, 1000))]
            elif what == 2:
                text[at:at] = chance.choice((b"1e999", b"-1", b"null", b'"\\ud800"', b"{}", b"[]"))
            elif what == 3:
                text[at:at] = chance.choice((b"[", b'{"a":')) * chance.choice((1, 5000))
            else:
                other = chance.choice(self._states)
                start = chance.randrange(len(other) or 1)
                text[at:at] = other[start : start + chance.randrange(200)]
        return bytes(text)


def sound_files() -> tuple[list[bytes], list[bytes]]:
    """Recordings and states to damage: synthetic ones, and those of a real process."""
    import subprocess

    from tests.recording.test_damaged import SOUND

    program = (
        "import fastalloc, os, sys\n"
        "fastalloc.start(interval_bytes=2000, dir=sys.argv[1])\n"
        "kept = []\n"
        "for n in range(40):\n"
        "    with fastalloc.span(f'GET /{n % 3}/', n=n), fastalloc.phase('view'):\n"
        "        kept.append([bytes(n * 100) for _ in range(20)])\n"
        "        fastalloc.checkpoint('half')\n"
        "fastalloc.write_dump('guard')\n"
        "os._exit(0)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", program, folder], check=True)
        (recording,) = Path(folder).glob("*.recording")
        (state,) = Path(folder).glob("dump-*/state.json")
        images = [*SOUND.values(), recording.read_bytes()]
        states = [state.read_bytes(), b'{"version": 1, "reason": "guard"}', b"{}"]
    return images, states


# --- the run -----------------------------------------------------------------------------------


def write_input(folder: Path, recording: bytes, state: bytes) -> None:
    """Put a recording and a dump of it into `folder`, instead of what there was."""
    for path in folder.glob("*dump-*"):
        shutil.rmtree(path)
    (folder / NAME).write_bytes(recording)
    dump = folder / DUMP
    dump.mkdir(exist_ok=True)
    (dump / "recording.fastalloc").write_bytes(recording)
    (dump / "state.json").write_bytes(state)


def bound_resources() -> None:
    """What no reader may exceed: memory, the size of a file, time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    signal.signal(signal.SIGALRM, _too_long)


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"reading took more than {SECONDS_EACH} s")


def attempt(folder: Path, recording: bytes, state: bytes, commands: int = 2) -> int:
    """One input, from writing it to the last reader."""
    write_input(folder, recording, state)
    signal.alarm(SECONDS_EACH)
    try:
        return read_in_every_way(folder, commands, recording[:4096] + state[:4096])
    finally:
        signal.alarm(0)


def main() -> int:
    """Damage and read, until the time is over."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--guided", action="store_true", help="by coverage: needs atheris")
    args = parser.parse_args()
    if args.guided:
        _instrument()
    images, states = sound_files()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if attempt(folder, images[-1], states[0], commands=99) < 2:
            print("the sound files cannot be read")
            return 1
        bound_resources()
        if args.guided:
            return _guided(folder, images, states, args.seconds)
        return _random(folder, Damage(random.Random(args.seed), images, states), args)


def _instrument() -> None:
    """Import the reading wing so that atheris sees which of its branches are taken."""
    import atheris

    with atheris.instrument_imports(include=["fastalloc"]):
        import fastalloc.analysis.post_mortem
        import fastalloc.cli
        import fastalloc.export.memray_file
        import fastalloc.recording.reader  # noqa: F401


def _random(folder: Path, damage: Damage, args: argparse.Namespace) -> int:
    begun, count, read_well = time.monotonic(), 0, 0
    slowest = 0.0
    while time.monotonic() - begun < args.seconds:
        recording, state = damage.recording(), damage.state()
        started = time.monotonic()
        try:
            read_well += attempt(folder, recording, state) > 0
        except BaseException:
            traceback.print_exc()
            kept = tempfile.mkdtemp(prefix="fastalloc-fuzz-")
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            print(f"seed {args.seed}, input {count}: left in {kept}")
            return 1
        slowest = max(slowest, time.monotonic() - started)
        count += 1
    print(
        f"seed {args.seed}: {count} inputs, {read_well} readable all the same, "
        f"the slowest took {slowest:.1f} s"
    )
    return 0


def _guided(folder: Path, images: list[bytes], states: list[bytes], seconds: float) -> int:
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    small = [image for image in images if len(image) < 1 << 20] or images
    for number, image in enumerate(small):
        (corpus / str(number)).write_bytes(image)
    inputs = folder / "inputs"
    inputs.mkdir()

    def one(content: bytes) -> None:
        attempt(inputs, content, states[len(content) % len(states)])

    largest = max(map(len, small)) + 4096
    options = [f"-max_total_time={int(seconds)}", f"-max_len={largest}", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], str(corpus), *options], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
