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
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fastalloc.config import MODES, OPTIONS

METAVARS = {"bytes": "BYTES", "count": "COUNT", "directory": "DIR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.usage = "fastalloc run [options] (SCRIPT | -m MODULE | -c CODE) [ARGUMENTS ...]"
    for option in OPTIONS:
        parser.add_argument(
            "--" + option.name.replace("_", "-"),
            choices=MODES if option.kind == "mode" else None,
            metavar=METAVARS.get(option.kind),
            help=option.doc.partition(". ")[0].rstrip(".").replace("%", "%%"),
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


def _start(args: argparse.Namespace) -> str | None:
    """Start the recorder; bad options end the command here, before the program has begun."""
    import fastalloc

    given = {option.name: getattr(args, option.name) for option in OPTIONS}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        fastalloc.start(**options)
    except (ValueError, TypeError) as error:
        args.parser.error(str(error))
    status = fastalloc.status()
    if not status.recording:
        sys.stderr.write(f"fastalloc: not recording: {status.reason}\n")
        return None
    return str(status.recording)


def _set_path_entry(entry: str) -> None:
    """Put the program's folder where Python put ours; with -P (safe path) Python puts none."""
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _run_module(name: str, *arguments: str) -> None:
    _set_path_entry(str(Path.cwd()))
    sys.argv = [name, *arguments]  # run_module replaces the name by the module's path
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_script(script: str, *arguments: str) -> None:
    sys.argv = [script, *arguments]
    if Path(script).is_dir() or script.endswith((".zip", ".pyz")):
        # It holds a __main__.py: runpy puts the program itself on sys.path, in our entry's place.
        if not sys.flags.safe_path:
            del sys.path[0]
        runpy.run_path(script, run_name="__main__")
        return
    _set_path_entry(str(Path(script).resolve().parent))
    with io.open_code(str(Path(script).resolve())) as file:
        source = file.read()
    _execute(compile(source, script, "exec"), script)


def _run_code(source: str, *arguments: str) -> None:
    _set_path_entry("")
    sys.argv = ["-c", *arguments]
    _execute(compile(source, "<string>", "exec"), None)


def _execute(code: Any, script: str | None) -> None:
    """Execute `code` as the module __main__, which stays: threads and exit handlers may need it."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if script is not None:
        main.__dict__["__file__"] = str(Path(script).absolute())
    sys.modules["__main__"] = main
    exec(code, main.__dict__)
