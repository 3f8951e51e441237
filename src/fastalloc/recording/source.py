"""Where a recording's bytes come from: a file, or a copy of one in memory."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Protocol

from fastalloc.recording.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path


_FLOCK = struct.Struct("hhqqi4x")
"""struct flock on 64-bit Linux: type, whence, start, length (0: to the end), pid."""
_WRITE_LOCK = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
CREATION_SECONDS = 1.0
"""A recorder fills a new file in milliseconds, and writes the magic last."""
UNLOCKED_SECONDS = 0.5
"""It locks it as soon as it is there; where the file system has no locks, its age has to tell."""


class Source(Protocol):
    """Bytes, by offset. Nothing is said about whether somebody is writing them."""

    path: Path
    """Where they are from: for errors."""
    size: int

    def is_locked(self) -> bool:
        """Whether a process holds the recorder's lock on it."""

    def fill(self, view: memoryview, offset: int) -> None:
        """Copy the bytes from `offset` on, as many as the view has. RecordingError if it
        cannot be filled."""


class File:
    """A file, read with pread: cut while we read, it ends a pread early, where a mapping would
    end the reader by SIGBUS. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open it. RecordingError if that fails or it is no regular file; never waits, as
        opening a pipe would, but for a recorder that is creating it: a second at most."""
        self.path = path
        self._descriptor = _open(path)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise RecordingError(
                f"{path}: is not a regular file; name a recording or a dump's folder"
            )
        await_creation(self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def is_locked(self) -> bool:
        """See Source. Asks only; takes no lock that the recorder could run into."""
        return _is_locked(self._descriptor)

    def fill(self, view: memoryview, offset: int) -> None:
        """See Source."""
        while len(view):
            try:
                count = os.preadv(self._descriptor, [view], offset)
            except OSError as error:
                raise RecordingError(
                    f"{self.path}: cannot be read ({error.strerror}); "
                    "copy it to another disk and try again"
                ) from None
            if not count:
                raise RecordingError(f"{self.path}: was cut short while it was read; read it again")
            view = view[count:]
            offset += count


class Image:
    """A recording's bytes in memory."""

    def __init__(self, path: Path, image: bytes | bytearray | memoryview) -> None:
        self.path = path
        self._image = memoryview(image).cast("B")
        self.size = len(self._image)

    def is_locked(self) -> bool:
        """See Source."""
        return False

    def fill(self, view: memoryview, offset: int) -> None:
        """See Source."""
        view[:] = self._image[offset : offset + len(view)]


def await_creation(descriptor: int) -> None:
    """Return when the file begins with something, or no recorder is at work on it, or after a second. What
    cannot be read does not wait either: it says why when it is read."""
    until = time.monotonic() + CREATION_SECONDS
    while not _begins(descriptor) and time.monotonic() < until:
        age = time.time() - os.fstat(descriptor).st_mtime
        if not _is_locked(descriptor) and abs(age) > UNLOCKED_SECONDS:
            return
        time.sleep(0.002)


def _begins(descriptor: int) -> bool:
    try:
        return any(os.pread(descriptor, 8, 0))
    except OSError:
        return True


def _is_locked(descriptor: int) -> bool:
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WRITE_LOCK)
    except OSError:  # a file system without such locks
        return False
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RecordingError(f"{path}: there is no such file; check the path") from None
    except PermissionError:
        raise RecordingError(
            f"{path}: no permission to read it; recordings are readable by the user who runs "
            "the process, so read it as that user or as root"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordingError(
            f"{path!s:.200}: cannot be opened ({reason}); check the path"
        ) from None
