"""Delete what ended processes have left, beyond the bounds.

Recorded processes do this by themselves every ten minutes, and after each dump. The oldest goes first,
and what tells of a death last: recordings of processes that died, and one dump of each. What a living
process writes, its newest dump, the newest recording of a death and the newest dump of one always stay.
A bound of 0 is none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.recordings import place_of
from fastalloc.config import ConfigError

if TYPE_CHECKING:
    from fastalloc.leftovers import Item

BOUNDS = {
    "keep_bytes": "BYTES",
    "keep_count": "COUNT",
    "keep_days": "DAYS",
    "keep_free_bytes": "BYTES",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    from fastalloc.config import OPTIONS

    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        help="the folder of recordings (default: as for recording, pyproject.toml included)",
    )
    for option in OPTIONS:
        if option.name in BOUNDS:
            parser.add_argument(
                "--" + option.name.replace("_", "-"),
                metavar=BOUNDS[option.name],
                help=option.doc.partition(". ")[0].rstrip("."),
            )
    parser.add_argument("--dry-run", action="store_true", help="delete nothing, only say what")
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Delete, and say what."""
    from fastalloc import config, housekeeping, leftovers

    given = {name: getattr(args, name) for name in BOUNDS if getattr(args, name) is not None}
    try:
        resolved = config.resolve(given, {})
    except ConfigError as error:
        raise CommandError(str(error)) from None
    directory = place_of(args.directory or Path(resolved.dir))
    if not directory.is_dir():
        raise CommandError(f"{directory}: there is no such folder (or set FASTALLOC_DIR)")
    next(directory.iterdir(), None)  # of another user's: its OSError says so
    before = leftovers.look(str(directory))
    removed = housekeeping.prune(
        str(directory), housekeeping.caps_of(resolved), dry_run=args.dry_run
    )
    freed = sum(item.bytes for item, _ in removed)
    if args.json:
        output.print_json(
            {
                "directory": str(directory),
                "dry_run": args.dry_run,
                "found": len(before),
                "found_bytes": sum(item.bytes for item in before),
                "removed": [_to_dict(item, reason) for item, reason in removed],
                "removed_bytes": freed,
            }
        )
        return 0
    console = output.make_console()
    for item, reason in removed:
        console.print(f"{item.kind} {item.path}  {output.format_bytes(item.bytes)}  ({reason})")
    done = "would be deleted" if args.dry_run else "deleted"
    console.print(
        f"{len(removed)} of {len(before)} in {directory} {done}, {output.format_bytes(freed)} of "
        f"{output.format_bytes(sum(item.bytes for item in before))}"
    )
    return 0


def _to_dict(item: Item, reason: str) -> dict[str, Any]:
    return {"path": item.path, "kind": item.kind, "bytes": item.bytes, "reason": reason}
