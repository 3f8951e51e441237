"""memray's own reports of a snapshot, made by its public command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fastalloc.export.errors import ExportError
from fastalloc.export.memray_file import export_memray, replace_file
from fastalloc.export.versions import installed_memray, release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastalloc.recording.reader import Snapshot

FIRST_WITH_NO_WEB = (1, 19)


def flamegraph(
    source: Snapshot | str | Path,
    output_html: str | Path,
    *,
    leaks: bool = False,
    temporal: bool = False,
    inverted: bool = False,
    split_threads: bool = False,
    frames: Sequence[str] = (),
) -> None:
    """Draw a flame graph with memray: the high-water mark, or with `leaks` the live heap.

    source: a snapshot, or the path of a recording or dump.
    temporal: draw the whole time, to choose a stretch of it in the page.
    inverted: leaves first. split_threads: threads apart.
    frames: what to show above every stack: any of "span", "phase", "thread".

    The page needs no network where memray can embed its scripts (1.19 and later), and appears
    at once and complete, readable by its owner only. Raises ExportError, and RecordingError
    for a path that is no recording.
    """
    version = installed_memray()
    if version is None:
        raise ExportError("memray is not installed; it draws the flame graph (pip install memray).")
    options = {
        "--leaks": leaks,
        "--temporal": temporal,
        "--inverted": inverted,
        "--split-threads": split_threads,
        "--no-web": release(version) >= FIRST_WITH_NO_WEB,
    }
    snapshot = _read(source) if isinstance(source, str | Path) else source
    with tempfile.TemporaryDirectory(prefix="fastalloc-export-") as folder:
        file, page = Path(folder, "recording.bin"), Path(folder, "page.html")
        export_memray(
            snapshot,
            file,
            kind="all" if temporal else "aggregated",
            memray_version=version,
            frames=frames,
        )
        _run_memray(
            "flamegraph",
            *(name for name, given in options.items() if given),
            "-o",
            str(page),
            str(file),
        )
        replace_file(output_html, page.read_bytes())


def _read(path: str | Path) -> Snapshot:
    from fastalloc.recording.reader import read

    return read(path)


def _run_memray(*arguments: str) -> None:
    """Run memray as a command; its words become the error's if it fails.

    -P: not a memray.py of the working folder. Without FASTALLOC_*: memray is not to be recorded.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", "memray", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={
            name: value for name, value in os.environ.items() if not name.startswith("FASTALLOC_")
        },
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ExportError(f"memray {arguments[0]} failed: {said}")
