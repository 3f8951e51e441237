"""Record a program from its first line.

The program runs in this process just as `python` would run it: a script with its arguments,
`-m MODULE`, or `-c CODE`. Processes that it forks are recorded too, each in a file of its own.
What follows the program's name belongs to the program, so options of `run` go first:

  fastalloc run app.py --port 8000
  fastalloc run --mode aggressive -m gunicorn app:application --workers 2
"""

from __future__ import annotations

import argparse
import builtins
import io
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fastalloc.config import MODES, OPTIONS

_OPTIONS = [
    option for option in OPTIONS if option.kind not in ("secret", "url")
]  # `ps` shows arguments
METAVARS = {"percent": "PERCENT", "bytes": "BYTES", "count": "COUNT", "directory": "DIR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.usage = "fastalloc run [options] (SCRIPT | -m MODULE | -c CODE) [ARGUMENTS ...]"
    for option in _OPTIONS:
        name = "--" + option.name.replace("_", "-")
        meaning = option.doc.partition(". ")[0].rstrip(".").replace("%", "%%")
        if option.kind == "flag":
            parser.add_argument(name, action=argparse.BooleanOptionalAction, help=meaning)
            continue
        parser.add_argument(
            name,
            choices=MODES if option.kind == "mode" else None,
            metavar=METAVARS.get(option.kind),
            help=meaning,
        )
    parser.add_argument("--quiet", action="store_true", help="do not say where the recording is")
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE", help="run a module"
    )
    parser.add_argument(
        "-c", dest="code", nargs=argparse.REMAINDER, metavar="CODE", help="run Python code"
    )
    parser.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="SCRIPT", help="the script and its arguments"
    )
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Start recording, then become the program."""
    given = [kind for kind in (args.module, args.code, args.program) if kind]
    if len(given) != 1:
        args.parser.error("name one program: a SCRIPT, -m MODULE or -c CODE")
    if args.program and not Path(args.program[0]).exists():
        args.parser.error(f"{args.program[0]}: there is no such file")
    _begin_main(args)
    recording = _start(args)
    own_pid = os.getpid()
    try:
        if args.module:
            _run_module(*args.module)
        elif args.code:
            _run_code(*args.code)
        else:
            _run_script(*args.program)
    finally:
        # A forked child passes here too when it leaves by sys.exit.
        if recording and not args.quiet and os.getpid() == own_pid:
            sys.stderr.write(f"fastalloc: recorded in {recording} (try: fastalloc top {own_pid})\n")
    return 0


def _begin_main(args: argparse.Namespace) -> None:
    """Put the program's __main__ in our place, empty as yet: the recording is named after it.

    It stays there at the end, since threads and exit handlers may need it; runpy's would go.
    """
    main = ModuleType("__main__")
    if args.program:
        main.__file__ = str(Path(args.program[0]).absolute())
    sys.modules["__main__"] = main
    sys.argv = args.program or args.module or ["-c", *args.code[1:]]


def _start(args: argparse.Namespace) -> str | None:
    """Start the recorder; bad options end the command here, before the program has begun."""
    import fastalloc

    given = {option.name: getattr(args, option.name) for option in _OPTIONS}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        fastalloc.start(**options)
    except fastalloc.ConfigError as error:
        args.parser.error(str(error))
    status = fastalloc.status()
    if not status.recording:
        what = "recording in memory only" if status.active else "not recording"
        sys.stderr.write(f"fastalloc: {what}: {status.reason}\n")
        return None
    return str(status.recording)


def _set_path_entry(entry: str) -> None:
    """Put the program's folder where Python put ours; with -P (safe path) Python puts none."""
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _run_module(name: str, *arguments: str) -> None:
    _set_path_entry(str(Path.cwd()))
    sys.argv = ["-m", *arguments]  # what modules see that are imported on the way
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        sys.exit(f"fastalloc run: {error}")
    if spec is None:
        sys.exit(f"fastalloc run: no module named {name} that can be run")
    _execute_spec(spec)


def _run_script(script: str, *arguments: str) -> None:
    sys.argv = [script, *arguments]
    inside = PathFinder.find_spec("__main__", [script])
    if inside is not None:  # a folder or an archive with a __main__.py
        if sys.flags.safe_path:
            sys.path.insert(0, "")
        sys.path[0] = str(Path(script).absolute())
        _execute_spec(inside)
        return
    path = Path(script).resolve()
    _set_path_entry(str(path.parent))
    with io.open_code(str(path)) as file:
        code = compile(file.read(), script, "exec")
    absolute = str(Path(script).absolute())
    _execute(code, __file__=absolute, __loader__=SourceFileLoader("__main__", absolute))


def _run_code(source: str, *arguments: str) -> None:
    _set_path_entry("")
    sys.argv = ["-c", *arguments]
    _execute(compile(source, "<string>", "exec"))


def _execute_spec(spec: ModuleSpec) -> None:
    """Execute the module that `spec` describes, as Python does for -m."""
    get_code = getattr(spec.loader, "get_code", None)
    code = get_code(spec.name) if get_code else None
    if code is None:
        sys.exit(f"fastalloc run: {spec.name} has no code to run")
    if spec.name != "__main__":
        sys.argv[0] = str(spec.origin)
    _execute(
        code,
        __spec__=spec,
        __loader__=spec.loader,
        __file__=spec.origin,
        __cached__=spec.cached,
        __package__=spec.parent,
    )


def _execute(code: CodeType, **names: object) -> None:
    """Execute `code` as the module __main__."""
    main = sys.modules["__main__"]
    main.__dict__.update(__builtins__=builtins, **names)
    exec(code, main.__dict__)
