"""A dump's state.json, as untrusted as any file: checked against the schema that is shipped beside.

What does not conform is left out, section by section, and named in "error": the rest is still good.
The schema (state.schema.json) uses few of JSON Schema's words; those are understood here, so that
reading needs no library for it. A test holds them to be all.
"""

from __future__ import annotations

import json
import os
import stat
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_PATH = Path(__file__).with_name("state.schema.json")
VERSION = 1
MAX_BYTES = 5 << 20  # the recorder writes 4 MiB at most (dump_max_bytes)

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
UNDERSTOOD = {
    *("type", "properties", "required", "items", "additionalProperties", "anyOf", "$ref"),
    *("minimum", "maximum", "const"),
}
"""The words of JSON Schema that mean something to `conforms`."""


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of state.json."""
    loaded: dict[str, Any] = json.loads(SCHEMA_PATH.read_text())
    return loaded


def read_state(path: Path) -> dict[str, Any]:
    """A dump's state; {"error": ...} if there is none to be had. Never raises.

    The recording beside it is readable whatever became of this one.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return {"error": f"{path.name} is no file"}
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            return {"error": f"{path.name} is larger than {MAX_BYTES} bytes"}
        state = json.loads(text)
    except OSError as error:
        return {"error": f"{path.name} cannot be read ({error.strerror})"}
    except (ValueError, RecursionError):
        return {"error": f"{path.name} is no JSON: the dump was not finished"}
    return checked(state, path.name)


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe in its place is opened too: the caller looks."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def checked(state: object, name: str) -> dict[str, Any]:
    """The part of `state` that is as the schema says."""
    if not isinstance(state, dict):
        return {"error": f"{name} is no JSON object"}
    if state.get("version") != VERSION or state["version"] is True:
        return {
            "error": f"{name} is of another version than {VERSION}; read it with a newer fastalloc"
        }
    known = schema()["properties"]
    good, bad = {}, []
    for key, value in state.items():
        if key not in known:
            continue  # of a newer fastalloc
        if conforms(value, known[key]):
            good[key] = value
        else:
            bad.append(key)
    missing = [key for key in schema()["required"] if key not in state]
    if bad or missing:
        what = f"wrong: {', '.join(bad)}" if bad else f"missing: {', '.join(missing)}"
        good["error"] = f"{name} is damaged ({what})"
    return good


def conforms(value: object, rule: dict[str, Any]) -> bool:
    """Whether `value` is as `rule`, a part of the schema, says. Cost: one pass over it."""
    if "$ref" in rule:
        return conforms(value, schema()["$defs"][rule["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in rule and not any(conforms(value, each) for each in rule["anyOf"]):
        return False
    if "const" in rule and (value != rule["const"] or type(value) is not type(rule["const"])):
        return False
    if "type" in rule and not _is_a(value, rule["type"]):
        return False
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return bool(rule.get("minimum", value) <= value <= rule.get("maximum", value))
    if isinstance(value, dict):
        return _members_conform(value, rule)
    if isinstance(value, list) and "items" in rule:
        return all(conforms(each, rule["items"]) for each in value)
    return True


def _members_conform(value: dict[str, object], rule: dict[str, Any]) -> bool:
    named, others = rule.get("properties", {}), rule.get("additionalProperties", {})
    if any(key not in value for key in rule.get("required", ())):
        return False
    return all(conforms(each, named.get(key, others)) for key, each in value.items())


def _is_a(value: object, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, TYPES[name]) for name in names)
