"""How to compile the one extension, fastalloc._core. All else is in pyproject.toml."""

import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("src/fastalloc")
NATIVE = PACKAGE / "native"
WARNINGS = ["-Wall", "-Wextra"] + (["-Werror"] if os.environ.get("FASTALLOC_WERROR") == "1" else [])

flags = ["-O2", "-std=c11", "-fvisibility=hidden"]
if sys.platform == "linux":
    # Left on, GCC merges the fast path's two counters into one slower 16-byte read-modify-write.
    flags.append("-fno-tree-slp-vectorize")
    if platform.libc_ver()[0] == "glibc":
        # Thread state without a call. musl refuses this model in a module that is loaded late.
        flags.append("-ftls-model=initial-exec")
if platform.machine() in ("x86_64", "AMD64"):
    flags.append("-fcf-protection=none")  # no landing pads in functions that only forward


class BuildExt(build_ext):
    """Our C is compiled with warnings on; the C that Cython generates is not ours to mend."""

    def build_extension(self, ext):
        compile_one = self.compiler._compile

        def compile_with_warnings(obj, src, *rest):
            cc_args = rest[1]
            ours = Path(src).parent.name == "native"
            compile_one(obj, src, rest[0], cc_args + (WARNINGS if ours else ["-w"]), *rest[2:])

        self.compiler._compile = compile_with_warnings
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


core = Extension(
    "fastalloc._core",
    [str(PACKAGE / "_core.pyx"), *sorted(map(str, NATIVE.glob("*.c")))],
    depends=[
        *sorted(map(str, NATIVE.glob("*.h"))),
        *map(str, [*PACKAGE.glob("*.pxd"), *PACKAGE.glob("*.pxi")]),
    ],
    include_dirs=[str(PACKAGE), str(NATIVE)],
    extra_compile_args=flags,
    libraries=["m", "pthread"],
)

setup(
    ext_modules=cythonize([core], build_dir="build/cython", language_level=3),
    cmdclass={"build_ext": BuildExt},
)
