"""Light mode keeps to its memory while it records a real Django application for an hour of its clock."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.interpreters import ROOT, describe, environment
from benchmarks.overheads import probe

LIMIT_BYTES = 1 << 20
SECONDS, HOUR = 12, 3600

pytestmark = pytest.mark.slow


def preloaded(name: str, folder: Path) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / f"{name}.so"
    source = ROOT / "benchmarks" / f"{name}.c"
    command = [compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return str(library)


def test_light_mode_touches_one_mebibyte_at_most_under_a_django_app(tmp_path: Path) -> None:
    pytest.importorskip("django")
    shop = {
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
        "SHOP_SECRET_KEY": secrets.token_hex(),
        "SHOP_ADMIN_PASSWORD": secrets.token_hex(),
    }
    subprocess.run(
        [sys.executable, "-m", "fastalloc.demo.shop.populate"], env=environment(**shop), check=True
    )
    libraries = [preloaded(name, tmp_path) for name in ("mappings", "clock")]
    found = probe(
        describe(sys.executable),
        *("memory", "light", str(tmp_path), SECONDS, 0),
        LD_PRELOAD=":".join(libraries),
        CLOCK_FACTOR=str(HOUR // SECONDS),
        **shop,
    )
    # Few requests on a busy machine, but of every kind, and an hour of the timeline; what is touched by then
    # hardly grows any more, since the tables are full or their entries used again.
    assert found["requests"] >= 50
    assert found["samples"] >= 100, "recorded nothing to speak of"
    touched = found["recording_bytes"] + found["tables_bytes"]
    assert touched <= LIMIT_BYTES, found
