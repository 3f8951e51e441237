"""What was built for one patch release of CPython refuses another that keeps frames or contexts elsewhere.

There is only one interpreter here, so it is the headers that are made wrong: each case changes where our code
looks for one thing, as a changed header would.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

NATIVE = Path(__file__).parent.parent.parent / "src/fastalloc/native"
MODULE = """
#include <Python.h>
const char *fa_misfit(void);
static PyObject *misfit(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    const char *reason = fa_misfit();
    return reason ? PyUnicode_FromString(reason) : Py_NewRef(Py_None);
}
static PyMethodDef functions[] = {{"misfit", misfit, METH_NOARGS, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "fit", .m_methods = functions};
PyMODINIT_FUNC PyInit_fit(void) { return PyModule_Create(&module); }
"""
PROGRAM = """
import contextvars, random, sys
holes = random.Random(int(sys.argv[1]))
kept = [contextvars.ContextVar("kept") for _ in range(400)]
kept = [each for each in kept if holes.random() < 0.5]
import fit
def nested(depth):
    return nested(depth - 1) if depth else fit.misfit()
def generated():
    yield list(map(lambda _: nested(3), [0]))[0]
print(next(generated()))
"""
MOVED_CONTEXT = """
#include <internal/pycore_hamt.h>
struct moved { PyObject_HEAD PyObject *first, *second; PyHamtObject *ctx_vars; };
#define _pycontextobject moved
"""
# What stands in cpython_frames.h or fit.c, and what a header that moved it would make of it.
NEWER = sys.version_info >= (3, 13)
MOVED = {
    "previous": ("(*frame)->previous", "(struct _PyInterpreterFrame *)(*frame)->f_globals"),
    "previous, nowhere": ("(*frame)->previous", "(struct _PyInterpreterFrame *)0x7000000010"),
    "code": ("return frame->f_executable" if NEWER else "return frame->f_code", "return frame->f_globals"),
    "instruction": ("frame->instr_ptr" if NEWER else "frame->prev_instr", "1 + (_Py_CODEUNIT *)frame->f_globals"),
    "line table": ("code->co_linetable", "code->co_exceptiontable"),
    "first line": ("code->co_firstlineno", "code->co_argcount"),
    "variables": ("#include <internal/pycore_hamt.h>", MOVED_CONTEXT),
    "tree": ("->h_root", "->ob_base.ob_type"),
    "node's bits": ("uint32_t bits;", "uint32_t first, bits;"),
    "node's children": ("PyObject *children[32];", "PyObject *first, *children[32];"),
}  # fmt: skip
if sys.version_info >= (3, 14):
    MOVED["code"] = ("frame->f_executable.bits", "(uintptr_t)frame->f_globals")


def build(folder: Path, old: str = "", new: str = "") -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    include = sysconfig.get_path("include")
    if compiler is None or not (Path(include) / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")
    found = 0
    for name in ("fit.c", "fastalloc.h", "layout.h", "cpython_frames.h"):
        text = (NATIVE / name).read_text()
        found += bool(old) and old in text
        (folder / name).write_text(text.replace(old, new) if old else text)
    assert found or not old, f"{old} is nowhere in our code: this test has to follow it"
    (folder / "module.c").write_text(MODULE)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    flags = ["-O1", "-std=c11", "-w", "-shared", "-fPIC", f"-I{include}"]
    command = [compiler, *flags, "fit.c", "module.c", "-o", f"fit{suffix}"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def told(folder: Path, layout: int = 0) -> str:
    """layout: whereabouts of the variables that are made, each number its own."""
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", str(layout)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_fits_what_it_was_built_with(tmp_path: Path) -> None:
    assert told(build(tmp_path)) == "None"


@pytest.mark.parametrize("what", MOVED)
def test_what_lies_elsewhere_is_noticed_and_nothing_crashes(what: str, tmp_path: Path) -> None:
    folder = build(tmp_path, *MOVED[what])
    # Whether the try's variables fill an array node depends on where they lie: in most layouts of the heap they always
    # do, in one of twenty in every fourth process. Left to itself, each process has the same layout.
    reasons = (told(folder, layout) for layout in range(8))
    reason = next((each for each in reasons if each != "None"), "None")
    version = ".".join(map(str, sys.version_info[:3]))
    assert reason.startswith(f"this CPython {version} keeps its "), reason
    assert reason.endswith("which fastalloc was built with")
