"""What the demo does, from the empty folder to the flame graph."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastalloc
from fastalloc.export import ExportError, flamegraph
from fastalloc.recording import folder
from fastalloc.recording.errors import RecordingError

from .confine import Confinement, confined
from .load import MIX, Tally, drive, login
from .servers import KINDS, Server, serving
from .tables import Screen, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from fastalloc.recording.reader import Snapshot

GUILTY_SPAN = "GET /reports/statements/<int:customer_id>/"
REPORTS = Path(__file__).parent / "shop" / "reports.py"
GUILTY_CODE = "rows.append("
ROWS = 8
WARM_UP = 2 * len(MIX)
DEATH_TIMEOUT_SECONDS = 10.0


@dataclass
class Outcome:
    """One server's story, for summary.json."""

    server: str
    limit: str
    limit_bytes: int
    ending: str = ""
    tally: Tally = field(default_factory=Tally)
    recording: str = ""
    pid: int = 0
    state: str = ""
    live_bytes: int = 0
    rss_bytes: int = 0
    in_flight: list[str] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    flame_graph: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def as_told(self) -> bool:
        return not self.failures


def tell_all(
    output: Path, server: str, limit_bytes: int, requests: int, console: Console | None
) -> int:
    """See fastalloc.demo.run."""
    screen = Screen(console)
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    (output / "recordings").mkdir(mode=0o700, exist_ok=True)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="fastalloc-demo-") as work:
        environment = {
            "DJANGO_SETTINGS_MODULE": "fastalloc.demo.project.settings",
            "SHOP_DATABASE": str(Path(work) / "shop.sqlite3"),
            "SHOP_SECRET_KEY": secrets.token_hex(32),
            "SHOP_ADMIN_PASSWORD": secrets.token_hex(8),
            "FASTALLOC_DIR": str(output / "recordings"),
        }
        with screen.waiting("making the shop's database"):
            _populate(environment)
        for kind in KINDS if server == "both" else [server]:
            outcomes.append(_tell(kind, output, environment, limit_bytes, requests, screen))
    summary = output / "summary.json"
    summary.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    screen.line(f"All of it, for programs: {summary}")
    return 0 if all(outcome.as_told for outcome in outcomes) else 1


def guilty_line() -> str:
    """`path:line` of the code that bloats, as a report names it."""
    lines = REPORTS.read_text().splitlines()
    number = next(n for n, text in enumerate(lines, 1) if GUILTY_CODE in text)
    return f"{REPORTS}:{number}"


def _populate(environment: Mapping[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "fastalloc.demo.shop.populate"],
        env={**os.environ, **environment, "FASTALLOC_MODE": "disabled"},
        check=True,
    )


def _tell(
    kind: str,
    output: Path,
    environment: Mapping[str, str],
    limit_bytes: int,
    requests: int,
    screen: Screen,
) -> Outcome:
    screen.title(f"{kind} ({KINDS[kind]})")
    with confined(limit_bytes) as limit:
        outcome = Outcome(kind, limit.text, limit_bytes)
        screen.line(f"Under {limit.text}.")
        if limit.note:
            screen.line(f"({limit.note})")
        try:
            snapshot = _run_until_struck(outcome, limit, output, environment, requests, screen)
        except (RuntimeError, OSError, HTTPException, RecordingError) as error:
            outcome.failures.append(str(error))
            snapshot = None
    if snapshot is not None:
        _explain(outcome, snapshot, screen)
        _draw(outcome, snapshot, output / f"flamegraph-{kind}.html", screen)
    screen.verdict(outcome.failures, f"{GUILTY_SPAN} holds it, at {shown_path(guilty_line())}.")
    return outcome


def _run_until_struck(
    outcome: Outcome,
    limit: Confinement,
    output: Path,
    environment: Mapping[str, str],
    requests: int,
    screen: Screen,
) -> Snapshot | None:
    recordings = output / "recordings"
    before = set(folder.recordings(recordings))
    log = output / f"{outcome.server}.log"
    recorded = {**environment, **limit.environment, "FASTALLOC_MODE": "light"}
    with serving(outcome.server, log, recorded, limit.enter) as server:
        cookie = login(server.port, environment["SHOP_ADMIN_PASSWORD"])
        drive(server.port, cookie, WARM_UP, lambda tally: False, mix=("/", "/admin/shop/order/"))
        limit.arm(server.processes())

        def struck(tally: Tally) -> bool:
            return limit.struck() or (not limit.kills and (500 in tally.statuses or tally.lost > 0))

        with screen.progress("requests", requests) as progress:
            tally = drive(server.port, cookie, requests, struck, progress)
        outcome.tally = tally
        if not struck(tally):
            outcome.failures.append(f"{tally.sent} requests did not exhaust the memory")
        return _victim(outcome, limit, server, recordings, before)


def _victim(
    outcome: Outcome,
    limit: Confinement,
    server: Server,
    recordings: Path,
    before: set[folder.Entry],
) -> Snapshot | None:
    """The recording of who died; with nobody dead, of who holds most."""
    deadline = time.monotonic() + DEATH_TIMEOUT_SECONDS
    while True:
        server.alive()  # reaps it: a process that was not reaped is not gone
        entries = set(folder.recordings(recordings)) - before
        snapshots = [fastalloc.read(entry.path) for entry in entries]
        killed = [snapshot for snapshot in snapshots if snapshot.state == "killed"]
        waiting = limit.kills and not outcome.failures and not (killed and server.ending())
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    outcome.ending = server.ending() or ("" if limit.kills else "a request met a MemoryError")
    if limit.kills and not killed:
        outcome.failures.append("no recording of a killed process was found")
    among = killed or snapshots
    return max(among, key=lambda snapshot: snapshot.live_bytes) if among else None


def _explain(outcome: Outcome, snapshot: Snapshot, screen: Screen) -> None:
    outcome.recording, outcome.pid = str(snapshot.path), snapshot.pid
    outcome.state, outcome.live_bytes = snapshot.state, int(snapshot.live_bytes)
    outcome.rss_bytes = int(snapshot.rss_bytes)
    spans, lines = (
        [row for row in snapshot.top(by="live_bytes", group=group, limit=ROWS) if row.live_bytes]
        for group in ("span", "line")
    )
    outcome.spans = [row._asdict() for row in spans]
    outcome.lines = [row._asdict() for row in lines]
    outcome.in_flight = [str(name) for name in snapshot.spans[snapshot.spans["open"]]["name"]]
    screen.ending(outcome, snapshot)
    screen.rows("Spans that hold the memory", "span", spans, snapshot.live_bytes)
    screen.rows("Lines that hold it", "line", lines, snapshot.live_bytes)
    if not spans or spans[0].key != GUILTY_SPAN:
        outcome.failures.append(f"{GUILTY_SPAN} is not the span that holds most")
    if not lines or lines[0].key != guilty_line():
        outcome.failures.append(f"{guilty_line()} is not the line that holds most")


def _draw(outcome: Outcome, snapshot: Snapshot, page: Path, screen: Screen) -> None:
    try:
        with screen.waiting("memray draws the flame graph"):
            flamegraph(snapshot, page, leaks=True, frames=("span",))
    except ExportError as error:
        outcome.failures.append(f"no flame graph: {error}")
    else:
        outcome.flame_graph = str(page)
        screen.line(f"Flame graph of the live heap: {page}")
