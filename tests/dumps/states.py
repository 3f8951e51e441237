"""What the programs of these tests begin with, and how their dumps are looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastalloc.recording.state import schema

PRELUDE = """
import asyncio, gc, json, os, sys, threading, time
import fastalloc, fastalloc.dumps
from tests.core.inside import *
def state_of(path):
    with open(path + "/state.json") as file:
        return json.load(file)
"""


def load(path: str | Path) -> dict[str, Any]:
    """A dump's state, held to the schema by a library that knows all of JSON Schema."""
    jsonschema = pytest.importorskip("jsonschema")  # not where other Pythons are tried
    state: dict[str, Any] = json.loads((Path(path) / "state.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(state)
    return state


def left_overs(directory: Path) -> list[str]:
    """What is in the folder besides recordings and whole dumps."""
    return [
        path.name
        for path in directory.iterdir()
        if path.suffix != ".recording"
        and not (path.name.startswith("dump-") and (path / "state.json").exists())
    ]
