"""The folder for recordings and dumps: which one, and that it is this user's alone.

A folder that somebody else has made (a volume, /tmp) is never changed. Where others may look into it, recordings
go to a folder of our own inside: `fastalloc-<uid>`.

    missing                       made, with mode 0700
    ours, with mode 0700          used as it is (other bits, such as setgid, do not matter)
    anything else                 <folder>/fastalloc-<uid>, by the same rules but the last
"""

from __future__ import annotations

import os
import stat

from fastalloc.values import ConfigError

_PREFIX = "fastalloc-"


def default() -> str:
    """Where recordings go unless told otherwise: FASTALLOC_DIR or /var/tmp/fastalloc-<uid>."""
    given = os.environ.get("FASTALLOC_DIR")
    if given:
        return os.path.abspath(given)
    base = "/var/tmp"
    if not os.access(base, os.W_OK | os.X_OK):
        base = os.environ.get("TMPDIR") or "/tmp"
    return _own_inside(base)


def to_record_in(path: str) -> str:
    """The folder that is meant when `path` is given for recordings: itself, or ours inside. Changes nothing."""
    try:
        info = os.lstat(path)
    except OSError:
        return path
    return _own_inside(path) if stat.S_ISDIR(info.st_mode) and not _is_private(info) else path


def to_read(path: str) -> str:
    """The folder that recordings lie in when `path` is given to a reader: ours inside where there is one, and else
    that of the only user who has one there."""
    own = to_record_in(path)
    if own == path or _is_folder(own):
        return own
    try:
        names = os.listdir(path)
    except OSError:
        return path
    inside = [
        os.path.join(path, name)
        for name in names
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX).isdecimal()
    ]
    return inside[0] if len(inside) == 1 and _is_folder(inside[0]) else path


def prepare(path: str) -> None:
    """Make sure that `path` is a folder of this user's with mode 0700, and no symbolic link.

    OSError or ConfigError otherwise: someone else could read or replace recordings in it.
    """
    if not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        raise ConfigError(f"dir: {path} is a symbolic link; name the folder itself")
    if not stat.S_ISDIR(info.st_mode):
        raise ConfigError(f"dir: {path} is not a folder")
    if info.st_uid != os.geteuid():
        raise ConfigError(f"dir: {path} belongs to another user; set FASTALLOC_DIR")
    if not _is_private(info):
        raise ConfigError(
            f"dir: {path} is open to other users; give it mode 0700, or another folder"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"dir: {path} cannot be written; set FASTALLOC_DIR")


def _own_inside(path: str) -> str:
    return os.path.join(path, f"{_PREFIX}{os.geteuid()}")


def _is_folder(path: str) -> bool:
    """A link is none: somebody else may have put it there."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_private(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & 0o077
