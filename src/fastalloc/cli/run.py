"""Record a program from its first line.

The program runs in this process just as `python` would run it: a script with its arguments, `-`
(a script from stdin), `-m MODULE`, or `-c CODE`. Processes that it forks are recorded too, each in a file of its own.
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
from importlib.machinery import (
    BuiltinImporter,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from fastalloc.config import MODES, OPTIONS

_OPTIONS = [
    option for option in OPTIONS if option.kind not in ("secret", "url")
]  # `ps` shows arguments
METAVARS = {"percent": "PERCENT", "bytes": "BYTES", "count": "COUNT", "directory": "DIR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.usage = "fastalloc run [options] (SCRIPT | - | -m MODULE | -c CODE) [ARGUMENTS ...]"
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
        args.parser.error("name one program: a SCRIPT, - (stdin), -m MODULE or -c CODE")
    if args.program and args.program[0] == "-":
        if sys.stdin is None or sys.stdin.isatty():
            args.parser.error("- reads a program from a file or a pipe, not from a terminal")
    elif args.program:
        try:
            if Path(args.program[0]).is_file():
                Path(args.program[0]).open("rb").close()
            else:
                Path(args.program[0]).stat()
        except FileNotFoundError:
            args.parser.error(f"{args.program[0]}: there is no such file")
        except OSError as error:
            args.parser.error(f"{args.program[0]}: {error.strerror}")
    _begin_main(args)
    recording = _start(args)
    own_pid = os.getpid()
    try:
        if args.module:
            _run_module(*args.module)
        elif args.code:
            _run_code(*args.code)
        elif args.program[0] == "-":
            _run_stdin(*args.program)
        else:
            _run_script(*args.program)
    except SystemExit:
        raise
    except BaseException as error:
        _hide_command(error)
        raise
    finally:
        # A forked child passes here too when it leaves by sys.exit.
        if recording and not args.quiet and os.getpid() == own_pid:
            sys.stderr.write(f"fastalloc: recorded in {recording} (try: fastalloc top {own_pid})\n")
    return 0


_COMMAND_MAIN = sys.modules["__main__"]  # kept: Python goes on in it once the program has ended


def _begin_main(args: argparse.Namespace) -> None:
    """Put the program's __main__ in our place, empty as yet: the recording is named after it.

    It stays there at the end, since threads and exit handlers may need it; runpy's would go.
    """
    names: dict[str, object] = {"__loader__": BuiltinImporter}
    ours = vars(_COMMAND_MAIN)  # begun by this version of Python, in its way
    if "__annotations__" in ours:
        names["__annotations__"] = {}
    names["__builtins__"] = builtins
    if args.program:
        script = args.program[0]
        names["__file__"] = "<stdin>" if script == "-" else _absolute(script)
        if "__cached__" in ours:
            names["__cached__"] = None
    main = ModuleType("__main__")
    main.__dict__.update(names)
    sys.modules["__main__"] = main
    sys.argv = args.program or args.module or ["-c", *args.code[1:]]


def _absolute(path: str) -> str:
    """As Python does it for a script: nothing is made simpler."""
    return path if path.startswith("/") else f"{Path.cwd()}/{path}"


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
    _run_by_runpy(name)


def _run_by_runpy(name: str, *, alter_argv: bool = True) -> None:
    """Python itself runs modules by this function, and it is in tracebacks."""
    import runpy

    from fastalloc import program

    inside: Any = runpy
    as_main = inside._run_module_as_main
    program.begin(_OWN_FILE, as_main.__code__, inside._run_code.__code__)
    as_main(name, alter_argv)


def _run_script(script: str, *arguments: str) -> None:
    sys.argv = [script, *arguments]
    path = _absolute(script)
    if Path(path).is_dir() or PathFinder.find_spec("__main__", [script]) is not None:
        # A folder or an archive with a __main__.py.
        if sys.flags.safe_path:
            sys.path.insert(0, "")
        sys.path[0] = path
        _run_by_runpy("__main__", alter_argv=False)
        return
    _set_path_entry(str(Path(path).resolve().parent))
    if path.endswith(".pyc"):
        loader = SourcelessFileLoader("__main__", path)
        _execute(loader.get_code("__main__"), __loader__=loader)
        return
    with io.open_code(path) as file:
        source = file.read()
    _execute(_compile(source, path), __loader__=SourceFileLoader("__main__", path))


def _run_stdin(*arguments: str) -> None:
    _set_path_entry("")
    sys.argv = [*arguments]
    _execute(_compile(sys.stdin.buffer.read(), "<stdin>"))


def _run_code(source: str, *arguments: str) -> None:
    _set_path_entry("")
    sys.argv = ["-c", *arguments]
    if sys.version_info >= (3, 14):
        from textwrap import dedent

        source = dedent(source)
    code = _compile(source, "<string>")
    if sys.version_info >= (3, 13):  # tracebacks show its lines
        import linecache

        register: Any = getattr(linecache, "_register_code", None)
        if register is not None:
            by: object = code if hasattr(linecache, "_interactive_cache") else "<string>"  # 3.13
            register(by, source, "<string>")
    _execute(code)


def _compile(source: str | bytes, name: str) -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)


def _execute(code: CodeType | None, **names: object) -> None:
    """Execute `code` as the module __main__."""
    from fastalloc import program

    main = sys.modules["__main__"].__dict__
    main.update(names)
    program.begin(_OWN_FILE, _execute.__code__, _become.__code__)
    _become(code, main)


def _become(code: Any, main: dict[str, Any]) -> None:
    exec(code, main)


_OWN_FILE = _become.__code__.co_filename


def _hide_command(error: BaseException) -> None:
    """Have Python's last word on `error`, which is about to end the program, be of the program's frames alone.

    Python itself must say it: it knows how an exception ends a process. So its hook is taken, for that one call.
    """
    entry = error.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename == _OWN_FILE:
        entry = entry.tb_next
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        return

    def excepthook(
        kind: type[BaseException], value: BaseException, traceback: TracebackType | None
    ) -> None:
        sys.excepthook = hook
        if value is error:
            sys.last_traceback = error.__traceback__ = traceback = entry
        hook(kind, value, traceback)

    sys.excepthook = excepthook
