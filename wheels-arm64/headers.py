#!/usr/bin/env python3
"""Make the aarch64 headers of a CPython from its x86_64 ones.

    wheels-arm64/headers.py INCLUDE FOLDER

All headers are the same but pyconfig.h, in which configure has written what it found out about the
machine. What differs there was found by comparing Debian's packages for both architectures: after
this change no line differed for 3.11, 3.13, 3.14 and 3.15. The copy must be whole, since Python.h
includes the pyconfig.h that lies beside it.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

UNDEFINED = (
    "HAVE_GCC_ASM_FOR_X64",
    "HAVE_GCC_ASM_FOR_X87",
    "_Py_HACL_CAN_COMPILE_VEC128",
    "_Py_HACL_CAN_COMPILE_VEC256",
)
DEFINED = {
    "HAVE_USABLE_WCHAR_T": "1",  # wchar_t is unsigned on aarch64
    "PY_SUPPORT_TIER": "2",
}


def for_aarch64(pyconfig: str) -> str:
    """The text of pyconfig.h as configure writes it on aarch64."""
    for name in UNDEFINED:
        pyconfig = re.sub(rf"^#define {name} .*$", f"/* #undef {name} */", pyconfig, flags=re.M)
    for name, value in DEFINED.items():
        line = rf"^(#define {name} .*|/\* #undef {name} \*/)$"
        pyconfig = re.sub(line, f"#define {name} {value}", pyconfig, flags=re.M)
    return re.sub(r'^(#define SOABI_PLATFORM) "x86_64', r'\1 "aarch64', pyconfig, flags=re.M)


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: headers.py INCLUDE FOLDER", file=sys.stderr)
        return 2
    include, folder = map(Path, sys.argv[1:])
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(include, folder)
    pyconfig = folder / "pyconfig.h"
    pyconfig.write_text(for_aarch64(pyconfig.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
