"""Every option, once.

An option's value comes from the first of: a keyword argument of `start`, an environment variable
`FASTALLOC_<NAME>`, `fastalloc.configure`, `[tool.fastalloc]` of the pyproject.toml in the working
directory, the default. `status` shows each value and where it came from. Unknown names are errors.

No dataclasses, pathlib or collections here: they would double what `import fastalloc` costs.
"""

from __future__ import annotations

import os

from fastalloc import directory
from fastalloc.values import MODES as MODES
from fastalloc.values import NO, TRACKERS, checked
from fastalloc.values import ConfigError as ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

INTERVALS = {
    "disabled": 512 * 1024,
    # It watches what grows. At 512 KiB, large blocks alone gave pickle 4,000 samples a second: 0.9 % of its time.
    "standby": 4 * 1024 * 1024,
    "light": 512 * 1024,
    "aggressive": 64 * 1024,
    "targeted": 1,
}


class Option:
    """One line of the table: a name, the kind of its value, the default (None: it depends on the
    mode or the user), and what it means."""

    __slots__ = ("default", "doc", "kind", "name")

    def __init__(self, name: str, kind: str, default: object, doc: str) -> None:
        self.name, self.kind, self.default, self.doc = name, kind, default, doc


OPTIONS = (
    Option("mode", "mode", "light", "How much is recorded: one of " + ", ".join(MODES) + "."),
    Option(
        "interval_bytes",
        "bytes",
        None,
        "Mean bytes between samples; 1 records every allocation. Smaller is finer and slower. When the "
        "table of live samples is full (see scale), the interval is doubled and half of them go. "
        "By default 524288 (4 MiB in standby, 64 KiB in aggressive mode, 1 in targeted mode).",
    ),
    Option("max_frames", "count", 128, "Frames kept per stack, the leaf-most ones; 1 to 256."),
    Option(
        "native",
        "flag",
        False,
        "Also record native memory: malloc and mmap as called by other libraries than Python's own. "
        "Linux with glibc; see docs/native.md.",
    ),
    Option(
        "native_frames",
        "count",
        0,
        "C functions kept of the stack of native memory, the innermost ones; 0: none, 64 at most. "
        "With native only; see docs/native.md.",
    ),
    Option(
        "dir",
        "directory",
        None,
        "Folder for recordings and dumps, on a disk rather than in memory (a tmpfs counts as the "
        "service's own memory). Made with mode 0700 if missing; where others may look into it, recordings go to "
        "fastalloc-<uid> inside. By default /var/tmp/fastalloc-<uid>.",
    ),
    Option(
        "keep_bytes",
        "bytes",
        1 << 30,
        "Disk space for the recordings and dumps of ended processes. Beyond it the oldest are "
        "deleted; 0: no bound.",
    ),
    Option(
        "keep_count",
        "count",
        100,
        "How many dumps, and recordings of ended processes, are kept; 0: no bound.",
    ),
    Option("keep_days", "count", 14, "How many days they are kept; 0: no bound."),
    Option(
        "keep_free_bytes",
        "bytes",
        128 << 20,
        "Disk space that is left free. Below it the oldest are deleted, and if that is not enough "
        "the recording lies in memory; 0: no bound.",
    ),
    Option(
        "post_mortem_at_start",
        "flag",
        False,
        "Log a line about each process that died badly since, a few seconds after the start. A "
        "process of its own reads their recordings, for a second or two.",
    ),
    Option(
        "memory_limit_bytes",
        "bytes",
        0,
        "The process's memory limit, where it cannot be found by itself. 0: the smallest of "
        "cgroup, RLIMIT_AS, RLIMIT_DATA and the machine's memory.",
    ),
    Option(
        "summary_percent",
        "percent",
        75,
        "Usage, in percent of the limit, at which one line is logged; not above guard_percent. 0: never.",
    ),
    Option(
        "guard_percent",
        "percent",
        90,
        "Usage, in percent of the limit, at which the guard acts: a dump, callbacks, a line in the log, and "
        "tracking stops. 0: never.",
    ),
    Option(
        "guard_rearm_percent",
        "percent",
        75,
        "Usage below which the guard is armed again and tracking goes on, after the cooldown. 0: it "
        "acts once, and tracking stays off.",
    ),
    Option(
        "guard_cooldown_seconds",
        "count",
        300,
        "Least time between a trip of the guard and its being armed again, in seconds.",
    ),
    Option(
        "guard_dumps_per_day",
        "count",
        3,
        "Most dumps that the guard of one process writes in 24 hours; beyond them it does all but that.",
    ),
    Option(
        "standby_light_percent",
        "percent",
        60,
        "Usage at which standby becomes light; back 10 points below. 0: never.",
    ),
    Option(
        "standby_aggressive_percent",
        "percent",
        80,
        "Usage at which standby becomes aggressive; back 10 points below. 0: never.",
    ),
    Option(
        "dump_max_bytes",
        "bytes",
        512 * 1024,
        "Largest state.json of a dump, 64 KiB to 4 MiB: what does not fit is left out, and says so. "
        "Of this memory 64 KiB are reserved at once.",
    ),
    Option(
        "dump_max_ms",
        "count",
        250,
        "Longest time that gathering a dump's state may take, in milliseconds, 10 to 10000. The "
        "program's threads wait for parts of it.",
    ),
    Option(
        "dump_signal",
        "signal",
        "",
        "Signal that asks for a dump, such as SIGUSR2 or SIGRTMIN+1; none by default. A handler that is "
        "there stays, and is called as well.",
    ),
    Option(
        "scale",
        "count",
        None,
        "Capacity of the recording's tables, 1 to 64: each step is 16,384 live samples and about 3.5 MiB of "
        "file. By default 1; 4 in aggressive and 16 in targeted mode, or with interval_bytes 1.",
    ),
    Option(
        "request_percent",
        "percent",
        1,
        "How many requests in a hundred trackers look at in detail, in light mode. The byte sampler "
        "sees all of them, and aggressive mode looks at each.",
    ),
    Option(
        "trackers",
        "trackers",
        "all",
        "What is looked at in a detailed request: all, none, or some of "
        + ", ".join(TRACKERS)
        + ", separated by commas.",
    ),
    Option(
        "seed",
        "count",
        0,
        "Seed of the lot by which requests are chosen; 0: another one in each process.",
    ),
    Option(
        "request_log_bytes",
        "bytes",
        8 << 20,
        "Size of a process's request log on disk, at most; 0: none is written.",
    ),
    Option(
        "high_request_bytes",
        "bytes",
        64 << 20,
        "A request whose own memory stood that high is told of by a log line; 0: none is.",
    ),
    Option(
        "token_secret",
        "secret",
        "",
        "What signs the tokens that force a request to be recorded closely, 16 characters at least. "
        "Without it no header forces anything. Shown nowhere.",
    ),
    Option(
        "overhead_percent",
        "percent",
        None,
        "Part of the process's CPU time that taking samples may use, in percent; 0: any. Beyond it "
        "the interval is widened, then recording switched off. By default 1; 5 in aggressive mode; "
        "targeted mode has none.",
    ),
    Option(
        "kill_switch_url",
        "url",
        "",
        "A key that switches off all processes that share it, while it is set. "
        "redis://host/0/key, memcached://host/key or django:cache/key.",
    ),
    Option("kill_switch_seconds", "count", 5, "Seconds between two looks at that key; 1 to 3600."),
)
AT_ONCE = {
    "high_request_bytes",
    "request_log_bytes",
    "request_percent",
    "token_secret",
}  # configure() changes these while recording
_BY_NAME = {option.name: option for option in OPTIONS}
_SCALES = {"aggressive": 4, "targeted": 16}
_NOT_OPTIONS = {"WERROR", "DISABLED"}  # a variable of our own build; the kill switch


class Config:
    """The options in force: one attribute per option, and `sources`, a dict from an option's name
    to where its value came from ("argument", "environment", "configure", "pyproject", "default")."""

    __slots__ = ("sources", *_BY_NAME)

    mode: str
    interval_bytes: int
    max_frames: int
    native: bool
    native_frames: int
    dir: str
    memory_limit_bytes: int
    keep_bytes: int
    keep_count: int
    keep_days: int
    keep_free_bytes: int
    post_mortem_at_start: bool
    summary_percent: float
    guard_percent: float
    guard_rearm_percent: float
    guard_cooldown_seconds: int
    guard_dumps_per_day: int
    standby_light_percent: float
    standby_aggressive_percent: float
    scale: int
    trackers: str
    dump_max_bytes: int
    dump_max_ms: int
    dump_signal: str
    token_secret: str
    overhead_percent: float | None
    kill_switch_url: str
    kill_switch_seconds: int
    sources: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Options as plain values, in the order of the table; of a secret, whether it is set, and of a
        URL all but the password."""
        shown: dict[str, Callable[[Any], object]] = {"secret": bool, "url": without_login}
        return {
            name: shown[option.kind](value) if option.kind in shown else value
            for name, option in _BY_NAME.items()
            for value in [getattr(self, name)]
        }


def is_disabled() -> bool:
    """FASTALLOC_DISABLED is set: it wins over everything. Whatever does not say no says yes."""
    return os.environ.get("FASTALLOC_DISABLED", "").strip().lower() not in NO


def without_login(url: str) -> str:
    """`url` without user and password."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def resolve(arguments: Mapping[str, object], configured: Mapping[str, object]) -> Config:
    """Find each option's value. ConfigError names what is wrong."""
    layers = (
        ("argument", dict(arguments)),
        ("environment", _from_environment()),
        ("configure", dict(configured)),
        ("pyproject", _from_pyproject()),
    )
    for source, values in layers:
        for name in values:
            if name not in _BY_NAME:
                raise ConfigError(_unknown(name, source))
    config = Config()
    config.sources = {}
    for option in OPTIONS:
        source, value = next(
            ((source, values[option.name]) for source, values in layers if option.name in values),
            ("default", option.default),
        )
        config.sources[option.name] = source
        setattr(config, option.name, checked(option, value) if value is not None else None)
    if config.interval_bytes is None:
        config.interval_bytes = INTERVALS[config.mode]
    if config.scale is None:
        every_one = config.interval_bytes <= INTERVALS["targeted"]
        config.scale = _SCALES.get("targeted" if every_one else config.mode, 1)
    config.dir = directory.to_record_in(config.dir or directory.default())
    _check_order(config)
    return config


def _check_order(config: Config) -> None:
    """ConfigError where a summary is asked for that could never come before the guard has acted."""
    summary, guard = config.summary_percent, config.guard_percent
    if guard and summary > guard and config.sources["summary_percent"] != "default":
        raise ConfigError(
            f"summary_percent: {summary:g} is above guard_percent ({guard:g}), where tracking stops; "
            "it must be below, or 0 for no summary"
        )


def check(values: Mapping[str, object]) -> dict[str, object]:
    """`values` with each checked and converted. ConfigError names what is wrong."""
    if not isinstance(values, dict):
        try:
            values = dict(values)
        except (TypeError, ValueError):
            raise ConfigError(
                f'configure takes options by name, as in {{"mode": "light"}}; not {type(values).__name__}'
            ) from None
    for name in values:
        if name not in _BY_NAME:
            raise ConfigError(_unknown(name, "configure"))
    return {name: checked(_BY_NAME[name], value) for name, value in values.items()}


def default_of(name: str) -> object:
    """An option's default; None where it depends on the mode or the user."""
    return _BY_NAME[name].default


def _from_environment() -> dict[str, object]:
    prefix = "FASTALLOC_"
    return {
        key[len(prefix) :].lower(): value
        for key, value in os.environ.items()
        if key.startswith(prefix) and key[len(prefix) :] not in _NOT_OPTIONS
    }


def _from_pyproject() -> dict[str, object]:
    try:
        with open("pyproject.toml", "rb") as file:
            content = file.read()
    except OSError:
        return {}
    if b"[tool.fastalloc]" not in content:
        return {}
    import tomllib

    try:
        table = tomllib.loads(content.decode()).get("tool", {}).get("fastalloc", {})
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"pyproject.toml cannot be read: {error}") from None
    return {name.replace("-", "_"): value for name, value in table.items()}


def _unknown(name: str, source: str) -> str:
    import difflib

    close = difflib.get_close_matches(str(name), _BY_NAME, 1)
    hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(_BY_NAME)}"
    return f"unknown option {name!r} ({source}){hint}"
