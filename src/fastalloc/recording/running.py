"""The words of a running process's recording that other processes may write.

The folder may hold anything, and what is written must reach no other file than the one that the
process itself has mapped. So: no symbolic link is followed (but to a process's memory), nothing is created, and a word is written
only into a regular file with one name, that says of itself what a recording says, whose process runs,
belongs to the file's owner and has mapped that very file.
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastalloc.recording import in_memory
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.layout import HEADER, LAYOUT_VERSION, MAGIC, Control, Mode, State
from fastalloc.recording.process import is_alive
from fastalloc.recording.source import await_creation

WORDS = ("control", "dump_requests", "resident_requests")
POLL_SECONDS = 0.02

_MAPPED = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ rw.s \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) ", re.MULTILINE)


class Running:
    """The recording of a running process, open for its words. Use it as a context manager.

    header: a copy of the file's header, as a numpy record. pid: the process.
    """

    def __init__(self, path: Path, *, proc: Path = Path("/proc")) -> None:
        """Open and check it. RecordingError with one line that says why it cannot be used."""
        self.path = path
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        names = 0 if in_memory.target(path) else 1
        try:
            self._descriptor = in_memory.open_no_other(path, flags)
        except FileNotFoundError:
            raise RecordingError(f"{path}: there is no such file; check the path") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RecordingError(
                f"{path!s:.200}: cannot be written ({reason}); name a running process's recording, "
                "as the user who runs it"
            ) from None
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != names:
                raise self._refused("it is no regular file with one name")
            await_creation(self._descriptor)
            self.header = self.read()
            self.pid = int(self.header["pid"])
            self._check_process(status, proc)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self) -> Any:
        """The header as it is now. RecordingError when it is none."""
        content = os.pread(self._descriptor, HEADER.itemsize, 0)
        if len(content) < HEADER.itemsize or content[: len(MAGIC)] != MAGIC:
            raise self._refused("it is no recording")
        header = np.frombuffer(content, HEADER)[0]
        if header["layout_version"] != LAYOUT_VERSION or header["header_bytes"] != HEADER.itemsize:
            raise self._refused(
                "another version of fastalloc writes it; use that version's command"
            )
        return header

    def write(self, word: str, value: int) -> None:
        """Write one of WORDS. The process sees the whole of it or nothing."""
        if word not in WORDS:
            raise ValueError(word)
        kind, offset = HEADER.fields[word][:2]  # type: ignore[index]
        os.pwrite(self._descriptor, value.to_bytes(kind.itemsize, "little"), offset)

    def _check_process(self, status: os.stat_result, proc: Path) -> None:
        if self.header["state"] != State.RUNNING or not is_alive(
            self.pid, int(self.header["process_start_ticks"]), proc=proc
        ):
            raise self._refused(f"its process {self.pid} has ended")
        folder = proc / str(self.pid)
        try:
            owner = folder.stat().st_uid
        except OSError:
            raise self._refused(f"its process {self.pid} has ended") from None
        if owner != status.st_uid:
            raise self._refused(f"process {self.pid} belongs to another user than the file")
        try:
            maps = (folder / "maps").read_bytes()
        except OSError:  # a process that gave up rights may not be looked into, even by its user
            return
        wanted = (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
        mapped = {(int(a, 16), int(b, 16), int(c)) for a, b, c in _MAPPED.findall(maps)}
        inodes = {inode for *_, inode in mapped}
        # Some file systems (overlay, btrfs) show another device there than stat tells.
        if wanted not in mapped and status.st_ino not in inodes:
            raise self._refused(f"process {self.pid} writes another file: this is a copy")

    def _refused(self, why: str) -> RecordingError:
        return RecordingError(f"{self.path}: {why}; nothing was changed")


def look_at_resident(path: Path, seconds: float) -> bool:
    """Have the process of this recording note what its resident memory consists of. False: it did not
    answer in time. RecordingError when it cannot be asked. It wakes for that within a second."""
    with Running(path) as running:
        before = running.header["resident"]["time_ns"]
        running.write(
            "resident_requests", int(running.header["resident_requests"]) + 1 & 0xFFFF_FFFF
        )
        until = time.monotonic() + seconds
        while running.read()["resident"]["time_ns"] == before:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_SECONDS)
    return True


def disable(path: Path) -> Running:
    """Ask the process of this recording to stop recording. Open afterwards."""
    running = Running(path)
    running.write("control", Control.DISABLE)
    return running


def enable(path: Path, mode: str | None = None) -> Running:
    """Ask it to go on, in `mode` or in the mode it was in. Open afterwards."""
    running = Running(path)
    running.write("control", Control.ENABLE + (Mode[mode.upper()] if mode else 0))
    return running
