"""Which memray release reads which format. A reader accepts its own format and no other."""

import re
from importlib import metadata

from fastalloc.export.errors import ExportError
from fastalloc.export.records import Allocator

# The first release of each format; its later releases write the same one.
FORMATS = (
    ((1, 7), 10),
    ((1, 11), 11),
    ((1, 19), 12),
    ((1, 20), 13),
)
NEWEST_KNOWN = (1, 20)
KNOWN = "1.7 to 1.20"

# Withdrawn by its authors: it takes PYMALLOC_MALLOC for a free, and fails on its stack.
WITHDRAWN = ("1.19", "1.19.0")


def installed_memray() -> str | None:
    """Return the version of the memray installed here, None if there is none."""
    try:
        return metadata.version("memray")
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, int]:
    """Return (major, minor) of a version such as "1.20.0"."""
    match = re.match(r"(\d+)\.(\d+)(?![\d])", version)
    if match is None:
        raise ExportError(f"'{version}' is not a memray version; expected one such as 1.20.0.")
    return int(match[1]), int(match[2])


def chosen_version(version: str | None) -> str:
    """Return the version, or that of the installed memray if it is None."""
    version = version if version is not None else installed_memray()
    if version is None:
        raise ExportError(
            "memray is not installed here, so its version must be given: each release "
            f"reads only its own file format (known: {KNOWN})."
        )
    return version


def format_for(version: str) -> int:
    """Return the format that a memray release reads."""
    wanted = release(version)
    if wanted > NEWEST_KNOWN:
        raise ExportError(
            f"memray {version} is newer than this fastalloc knows, and its file format may differ "
            f"(known: {KNOWN}); give the version of a memray that you can use."
        )
    chosen = 0
    for first, number in FORMATS:
        if wanted >= first:
            chosen = number
    if not chosen:
        raise ExportError(f"memray {version} is too old to be exported to (known: {KNOWN}).")
    return chosen


def pymalloc_for(version: str) -> Allocator:
    """Return what to call allocations from pymalloc in a file for a memray release."""
    return Allocator.PYMALLOC_CALLOC if version in WITHDRAWN else Allocator.PYMALLOC_MALLOC
