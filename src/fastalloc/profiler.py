"""start, stop and everything that acts on the recording of this process.

Laws: nothing here raises into the app except for a caller's own mistake in `start`, `configure`
(ConfigError, a ValueError) and what reads (`read`, `snapshot`, `write_dump`). What cannot work here
(an unsupported interpreter, a full disk) is warned of once, and `status` says why.
"""

from __future__ import annotations

import atexit
import os
import sys

from fastalloc import breaker, config
from fastalloc.status import Status

_DISABLED = "FASTALLOC_DISABLED is set"
if config.is_disabled():
    sys.modules.setdefault("fastalloc._core", None)  # type: ignore[arg-type]  # none of us loads it
try:
    from fastalloc import _core, control, place
except ImportError as error:  # not compiled for this interpreter, or a second interpreter in it
    _core = None  # type: ignore[assignment]
    _core_missing = f"the compiled core cannot be loaded ({error})"
    # The main interpreter's hooks see what a second one allocates: nothing is amiss there.
    _in_subinterpreter = "interpreter" in str(error).lower()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastalloc.housekeeping import Caps
    from fastalloc.limits import Limit
    from fastalloc.recording.snapshot import Snapshot


# New objects, and other tools, are noticed at once as a rule (native/notice.h); this is for the rest.
NATIVE_LOOK_SECONDS = 10.0

_configured: dict[str, object] = {}
_config: config.Config | None = None
_reason = _DISABLED if config.is_disabled() else "not started"
_STOP_SECONDS = 0.5  # that a job of ours may hold up the stop or the exit
_limits: list[Limit] = []
_warned = False
_exit_registered = False
_serving = False
_counters_only = False  # nothing can be recorded here
_when_enabled: tuple[str, int | None] = ("light", None)  # mode, interval


def start(mode: str | None = None, **options: object) -> None:
    """Start recording this process, in a new file. Does nothing when recording is on already.

    mode: "standby", "light" (default), "aggressive", "targeted" or "disabled"; other options as in
    `fastalloc.config.OPTIONS` (docs/options.md). Raises ConfigError (a ValueError) for an unknown or
    wrong option. Where recording cannot work it warns once and the app runs on; `status().reason`
    says why. Costs a few milliseconds.
    """
    global _config, _counters_only, _reason
    if mode is not None:
        options["mode"] = mode
    if config.is_disabled():
        _reason = _DISABLED
        return
    resolved = config.resolve(options, _configured)
    if _core and resolved.native and not _core.is_active():
        _core.native_prepare()  # gives up the GIL: another thread may start
    if _core and _core.is_active():
        return
    _reason = "disabled" if resolved.mode == "disabled" else _forbidden(resolved.dir)
    if _reason:
        return
    reason = _core_missing if _core is None else _core.unsupported()
    if reason is None:
        try:
            _start_core(resolved)
            _config = resolved
        except Exception as error:  # never into the app, whatever it is
            reason = str(error) or type(error).__name__
            if _core.is_active():  # not half of it
                _core.stop()
    if reason:
        _reason, _counters_only = reason, True
        _warn(f"not recording: {reason}")
    elif place.reason():
        _warn(f"recording in memory only: {place.reason()}")


def _forbidden(directory: str) -> str:
    return control.forbidden(directory) if _core is not None else ""


def _start_core(resolved: config.Config) -> None:
    """Recording is on afterwards, or an exception says why not."""
    global _exit_registered, _serving, _limits
    from fastalloc import (
        background,
        dumps,
        exits,
        guard,
        housekeeping,
        limits,
        logs,
        overhead,
        switches,
        threads,
    )
    from fastalloc.dumps import writer  # noqa: F401  (later it would change sys.modules under the program)

    _limits = limits.find(resolved.memory_limit_bytes)
    group = limits.own_cgroup()
    options = {
        "options": resolved.to_dict(),
        "sources": resolved.sources,
        "limit_source": _limits[0].source if _limits else "none",
        "limits": [limit.source for limit in _limits],
        "limits_bytes": [limit.limit_bytes for limit in _limits],
        "program": _program(),
        "boot_id": _boot_id(),
        "cgroup": group.folder,
        "cgroup_id": group.id,
    }
    of_cgroup = _limits and _limits[0].kind == "cgroup"
    usage_path = _limits[0].usage_path if of_cgroup else group.usage_path
    caps = housekeeping.caps_of(resolved)
    background.prepare()
    place.start(
        resolved.dir,
        caps,
        options=logs.to_json(options).encode(),
        mode=resolved.mode,
        interval_bytes=resolved.interval_bytes,
        max_frames=resolved.max_frames,
        scale=resolved.scale,
        cgroup_usage_path=os.fsencode(usage_path),
        limits=guard.limits_of(_limits),
        guard=guard.options(resolved),
        oom_events_path=os.fsencode(group.oom_events_path),
        native=resolved.native,
        native_frames=resolved.native_frames if resolved.native else 0,
        keep_free_bytes=resolved.keep_free_bytes,
    )
    _serving = False
    _core.options_changed(bool(resolved.token_secret))
    if resolved.native:
        background.every(NATIVE_LOOK_SECONDS, _core.native_look, "native")
        background.on("native", _core.native_look)
    else:
        background.cancel("native")
    breaker.listener = _core.note_breaker
    control.begin(resolved.dir, _switch_off, _switch_on)
    overhead.begin(resolved.overhead_percent)
    if resolved.kill_switch_url:
        from fastalloc import kill_switch

        kill_switch.begin(resolved.kill_switch_url, resolved.kill_switch_seconds)
    switches.watch_switches()
    threads.name_threads()
    dumps.begin(resolved, _program(), status)
    background.on("resident", _core.look_at_resident)
    guard.begin(resolved, _limits)
    exits.watch_children()
    _keep_house(resolved.dir, caps)
    if resolved.post_mortem_at_start:
        from fastalloc import predecessors

        predecessors.look(resolved.dir)
    if not _exit_registered:
        atexit.register(_at_exit)
        _exit_registered = True


def _keep_house(directory: str, caps: Caps) -> None:
    """Have the folder kept within its bounds: soon, and then every ten minutes."""
    from fastalloc import background, housekeeping

    def job() -> None:
        background.every(housekeeping.EVERY_SECONDS, job, "housekeeping", while_disabled=True)
        housekeeping.prune(directory, caps)

    background.every(housekeeping.FIRST_AFTER_SECONDS, job, "housekeeping", while_disabled=True)


def _program() -> str:
    """What runs, without its arguments: they may hold secrets."""
    main = sys.modules.get("__main__")
    return str(getattr(main, "__file__", None) or (sys.argv[0] if sys.argv else ""))


def _boot_id() -> str:
    """Which run of the machine this is; "" where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def _warn(reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        import warnings

        warnings.warn(f"fastalloc is {reason}", RuntimeWarning, stacklevel=3)


def _at_exit() -> None:
    from fastalloc import exits

    exits.note_end()
    try:
        _core.watcher_join(_STOP_SECONDS)
        _core.stop(at_exit=True)
    except RuntimeError:
        pass


def ending(kind: str, name: str = "") -> None:
    """Note how this process is about to end, for post-mortem: an integration knows it where the
    process itself cannot say it any more.

    kind: "clean", "exception" (name: its class) or "signal" (name: such as "SIGTERM"). The last note
    counts. Does nothing when nothing is recorded; never raises. About 10 us.
    """
    try:
        if _core is not None:
            _core.note_exit(kind, name)
    except Exception:
        pass


def stop() -> None:
    """Stop recording: take all hooks away and close the recording, which stays on disk.

    Does nothing when nothing is recorded.
    """
    global _reason
    if _core is None:
        return
    try:
        _core.watcher_join(_STOP_SECONDS)
        _core.stop()
    except RuntimeError:
        return
    _reason = "stopped"


def status() -> Status:
    """What the recorder does now, in which mode, where its recording is, and if not, why."""
    if _core:
        _core.native_look()
    facts = _core.state() if _core is not None else {}
    reason = ((control.reason() or place.reason()) if _core is not None else "") or _reason
    if _counters_only and not facts:
        from fastalloc import counters

        facts = {**counters.read(), "level": "counters"}
    elif facts:
        from fastalloc import dumps

        facts |= dumps.outcome()
    return Status(facts, _config, reason, _limits)


def option(name: str) -> Any:
    """The value of an option that is in force, or its default before the first start."""
    return getattr(_config, name) if _config is not None else config.default_of(name)


def configure(options: Mapping[str, object]) -> None:
    """Set options in the manner of logging.config.dictConfig.

    Before `start`: the values it shall use where no argument and no environment variable says
    otherwise. While recording: `mode` and `interval_bytes` take effect at once (in other threads the
    interval within the next MiB that they allocate), and so does what is said of requests; the other
    options belong to the next `start`. Raises ConfigError (a ValueError), and then changes nothing.
    """
    checked = config.check(options)
    _configured.update(checked)
    if _core is None or _config is None or not _core.is_active():
        return
    for name in config.AT_ONCE & checked.keys():
        setattr(_config, name, checked[name])
        _config.sources[name] = "configure"
    _core.options_changed(bool(_config.token_secret))
    if checked.get("mode") == "disabled":
        disable()
    elif "mode" in checked or "interval_bytes" in checked:
        mode = str(checked.get("mode", _core.state()["mode"]))
        _switch(mode, checked.get("interval_bytes"))


def _switch(mode: str, interval_bytes: object = None, source: str = "configure") -> None:
    assert _config is not None
    interval = interval_bytes if isinstance(interval_bytes, int) else config.INTERVALS[mode]
    _core.set_mode(mode, interval)
    for name, value in (("mode", mode), ("interval_bytes", interval)):
        setattr(_config, name, value)
        _config.sources[name] = source


def disable() -> None:
    """Switch recording off while the program runs: all hooks go. The recording stays readable, and
    `enable` goes on with it."""
    if _core is not None and _config is not None and _core.is_active():
        control.hold("program")


def _switch_off() -> None:
    """For control.py: the hooks go."""
    global _when_enabled
    state = _core.state()
    if state["state"] == "running":
        _when_enabled = (state["mode"], state["interval_bytes"])
        _switch("disabled", state["interval_bytes"], "control")


def enable(mode: str | None = None) -> None:
    """Switch recording on again after `disable` (in `mode`, by default the one it was in), or start.

    What was alive before is not known any more: the live heap begins empty. It stays off while the file
    `disabled` or the shared key of `kill_switch_url` says so. Raises ConfigError for a wrong mode.
    """
    if mode is not None:
        config.check({"mode": mode})
    if _core is None or _config is None or _core.state().get("state") != "running":
        start(mode)
    elif not _core.is_active():
        _core.native_wait()
        control.release(*control.UNTIL_ENABLED, mode=mode)
    elif _core.guard_has_stopped():
        _core.guard_rearm()


def _switch_on(mode: str | None) -> None:
    """For control.py: recording goes on, in `mode` or in the one it was in."""
    if _core.state().get("state") != "running":
        start(mode)
        return
    was, interval = _when_enabled
    wanted = mode or was
    if not _core.is_active() or wanted != _core.state()["mode"]:
        _switch(wanted, interval if wanted == was else None, "control")


def serving() -> None:
    """Start-up is over: what runs outside all spans counts for the phase "serving" from here on.

    Called by the middlewares at their first request. Costs nothing after the first call.
    """
    global _serving
    if not _serving and _core is not None and _core.is_active():
        _serving = True
        _core.set_process_phase("serving")


def read(path: str | os.PathLike[str]) -> Snapshot:
    """Read a recording or a dump, of a live or a dead process. Raises RecordingError (a ValueError)
    with one line that says what is wrong. Needs numpy. A few milliseconds."""
    from fastalloc.recording.reader import read as read_recording

    return read_recording(path)


def snapshot() -> Snapshot:
    """A consistent copy of this process's recording, in memory. RuntimeError when nothing was ever
    recorded. Needs numpy. A few milliseconds, and one more for each GiB of small objects and each 10,000
    free pieces of malloc: it looks at resident memory (docs/resident-memory.md).

    What this allocates is not recorded: a later snapshot does not show this one.
    """
    _require_recording()
    _core.native_look()  # or it may hold what was freed while another tool was here
    path = _core.state()["recording"] or "(in memory)"
    if not _core.is_active():
        return read(path)
    with _core.LeftOut():
        from fastalloc.recording.reader import read_copy

        _core.look_at_resident()
        return read_copy(_core.copy_recording(), path)


def write_dump(reason: str = "manual") -> str:
    """Write a dump: a folder beside the recordings with a copy of the recording and state.json.

    Returns its path. RuntimeError when nothing was ever recorded, OSError when the disk refuses; then
    nothing is left behind. A reader never sees half a dump. Takes some milliseconds, `dump_max_ms` at
    most and what the disk takes. docs/dump-format.md says what is in it.
    """
    _require_recording()
    from fastalloc import dumps

    return dumps.write(reason)


def _require_recording() -> None:
    if _core is None or not (_core.is_active() or _core.state().get("recording")):
        raise RuntimeError(f"nothing is recorded ({_reason}); call fastalloc.start() first")


def autostart() -> None:
    """Start when FASTALLOC_MODE is set, unless this is our own command. Never raises: what is wrong
    is warned of."""
    global _reason
    if not os.environ.get("FASTALLOC_MODE") or _is_own_command():
        return
    if _core is None and _in_subinterpreter:
        _reason = _core_missing
        return
    try:
        start()
    except Exception as error:
        _reason = str(error) or type(error).__name__
        _warn(f"not recording: {_reason}")


def _is_own_command() -> bool:
    """`fastalloc ...` and `python -m fastalloc ...` record nothing by themselves."""
    words = sys.orig_argv
    if sys.argv and os.path.basename(sys.argv[0]) == "fastalloc":
        return True
    return "-m" in words and words[words.index("-m") + 1 :][:1] == ["fastalloc"]
