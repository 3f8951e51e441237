"""An export of a full recording takes a second or so, not a minute."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from fastalloc.export import export_memray
from fastalloc.recording.layout import Region
from fastalloc.recording.reader import read
from tests.recording.synthetic import SyntheticRecording

if TYPE_CHECKING:
    from pathlib import Path

    from fastalloc.recording.reader import Snapshot

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """16,000 live samples, 4,000 freed ones, over 30,000 nodes."""
    chance = random.Random(1)
    recording = SyntheticRecording()
    sites = []
    for number in range(4000):
        depth, family = chance.randint(10, 60), chance.randint(0, 200)
        sites.append(
            recording.site(
                [
                    (f"f{number if level < 6 else family}_{level}", f"/app/{level}.py", level)
                    for level in range(depth)
                ]
            )
        )
    assert len(recording.tables[Region.NODES]) > 30_000
    for number in range(20_000):
        fields: dict[str, Any] = {
            "size": 512,
            "weight": 524_288,
            "site": chance.choice(sites),
            "tid": chance.randint(1, 40),
            "time_ns": 1000 * number,
        }
        if number % 5:
            recording.live(**fields)
        else:
            recording.freed(**fields, freed_ns=1000 * number + chance.randint(1, 10**7))
    return read(recording.write(tmp_path_factory.mktemp("full") / "full.recording"))


@pytest.mark.parametrize("kind", ["aggregated", "all"])
@pytest.mark.parametrize("version", ["1.10.0", "1.20.0"])
def test_a_full_recording_is_exported_in_seconds(
    full: Snapshot, tmp_path: Path, kind: str, version: str
) -> None:
    start = time.process_time()
    export_memray(full, tmp_path / "file.bin", kind=kind, memray_version=version)
    assert time.process_time() - start < 2
