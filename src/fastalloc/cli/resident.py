"""What resident memory consists of, printed, and the verdict on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastalloc.cli import output

if TYPE_CHECKING:
    from rich.console import Console

    from fastalloc.recording.resident import Resident
    from fastalloc.recording.snapshot import Snapshot


def print_resident(console: Console, snapshot: Snapshot) -> None:
    """A table of the parts, and the verdict in one line."""
    from fastalloc.analysis.resident import verdict

    resident = snapshot.resident
    console.print(f"\nresident memory{_age(resident, snapshot)}", style="bold")
    table = output.make_table(console)
    for column in ("part", "bytes", "of RSS"):
        table.add_column(column, justify="left" if column == "part" else "right", no_wrap=True)
    for name, part, error in _parts(resident):
        if part is None:
            table.add_row(name, "unknown", "")
            continue
        shown = output.format_bytes(part) + (f" ± {output.format_bytes(error)}" if error else "")
        share = f"{part / resident.rss_bytes:.0%}" if resident.rss_bytes else ""
        table.add_row(name, shown, share)
    console.print(table)
    if resident.absent_bytes:
        absent = output.format_bytes(resident.absent_bytes)
        console.print(f"allocators count {absent} more, never touched or swapped out", style="dim")
    found = verdict(snapshot)
    size = output.format_bytes(found.bytes)
    about = f"{size}, {found.share:.0%} of RSS, is " if found.advice else ""
    advice = f". Try: {found.advice}" if found.advice else ""
    console.print(f"verdict: {found.kind}: {about}{found.text}{advice}", soft_wrap=True)


def _age(resident: Resident, snapshot: Snapshot) -> str:
    if resident.seconds_ago is not None:
        return ""
    if snapshot.state == "running":
        return " (the process did not answer)"
    return " (not asked before the end)"


def _parts(resident: Resident) -> list[tuple[str, int | None, float]]:
    """Name, bytes, and one standard error where it is an estimate."""
    return [
        ("Python, live", resident.python_bytes, resident.python_error_bytes),
        ("pymalloc, free", resident.arenas_free_bytes, 0.0),
        ("malloc, live", resident.malloc_live_bytes, resident.malloc_live_error_bytes),
        ("malloc, free", resident.malloc_free_bytes, 0.0),
        ("mappings of libraries", resident.mapped_bytes, 0.0),
        ("mapped files", resident.file_bytes, 0.0),
        ("shared memory", resident.shmem_bytes, 0.0),
        ("the recorder", resident.own_bytes, 0.0),
        ("the rest", resident.rest_bytes, 0.0),
    ]
