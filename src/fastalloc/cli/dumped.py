"""What a dump's state.json says, printed: the main things, for a human."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console


def print_state(console: Console, state: dict[str, Any], limit: int) -> None:
    """Print a checked state (recording.state), `limit` rows of each section."""
    for name, value in _facts(state):
        console.print(f"{name}: {value}")
    told = (
        ("stacks of threads", ("thread", "span", "where"), _threads(state)),
        ("tasks", ("task", "coroutine", "state", "span", "where"), _tasks(state)),
        ("greenlets", ("greenlet", "span", "where"), _greenlets(state)),
        ("most frequent objects", ("type", "count"), _objects(state)),
    )
    for title, columns, rows in told:
        _print_rows(console, title, columns, list(rows), limit)
    console.print()


def _facts(state: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if "error" in state:
        yield "state", state["error"]
    if "reason" in state and "time" in state:
        try:
            when = f"{datetime.fromtimestamp(state['time'], UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (ValueError, OverflowError, OSError):
            when = "an unknown time"
        outside = ", from outside" if state.get("from_outside") else ""
        yield "dump", f"{state['reason']}, {when}{outside}"
    process = state.get("process", {})
    if "host" in process:
        yield "host", f"{process['host']}, {process.get('platform', '')}"
    guard = state.get("guard", {})
    if guard.get("trips"):
        usage = output.format_bytes(guard.get("usage_bytes", 0))
        size = output.format_bytes(guard.get("size", 0))
        yield "guard", f"{guard['state']} at {usage}, by an allocation of {size}"
    jump = state.get("checkpoints", {}).get("largest_jump")
    if jump:
        names = f"from {jump['from'] or 'its start'} to {jump['to']}"
        yield "largest jump", f"{output.format_bytes(jump['bytes'])} {names} in {jump['span']}"
    collector = state.get("gc", {})
    if "counts" in collector:
        on = "on" if collector["enabled"] else "off"
        yield (
            "garbage collector",
            f"{on}, counts {collector['counts']} of {collector['thresholds']}",
        )
    for name, section in state.items():
        if isinstance(section, dict) and isinstance(section.get("skipped"), str):
            yield f"{name} skipped", section["skipped"]


def _items(state: dict[str, Any], section: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = state.get(section, {}).get("items", [])
    return items


def _threads(state: dict[str, Any]) -> Iterable[Sequence[str]]:
    for each in _items(state, "threads"):
        yield each["name"] or str(each["tid"]), _span(each), _where(each["stack"])


def _tasks(state: dict[str, Any]) -> Iterable[Sequence[str]]:
    for each in _items(state, "tasks"):
        yield each["name"], each["coroutine"], each["state"], _span(each), _where(each["stack"])


def _greenlets(state: dict[str, Any]) -> Iterable[Sequence[str]]:
    for each in _items(state, "greenlets"):
        yield each["type"], _span(each), _where(each["stack"])


def _objects(state: dict[str, Any]) -> Iterable[Sequence[str]]:
    for each in _items(state, "objects"):
        yield each["type"], output.format_count(each["count"])


def _span(row: dict[str, Any]) -> str:
    return str(row["span_id"]) if row["span_id"] else "-"


def _where(stack: list[dict[str, Any]]) -> str:
    if not stack:
        return "-"
    leaf = stack[0]
    return f"{leaf['function']} ({output.shorten_path(leaf['file'])}:{leaf['line']})"


def _print_rows(
    console: Console, title: str, columns: Sequence[str], rows: list[Sequence[str]], limit: int
) -> None:
    if not rows:
        return
    console.print()
    console.print(title, style="bold")
    table = output.make_table(console)
    for column in columns:
        table.add_column(column, justify="right" if column == "count" else "left")
    for row in rows[:limit]:
        table.add_row(*row)
    console.print(table)
    if len(rows) > limit:
        console.print(f"... and {len(rows) - limit} more (--limit)", style="dim")
