"""How to compile the one extension, fastalloc._core. All else is in pyproject.toml."""

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("src/fastalloc")
NATIVE = PACKAGE / "native"
WARNINGS = ["-Wall", "-Wextra"] + (["-Werror"] if os.environ.get("FASTALLOC_WERROR") == "1" else [])

flags = ["-O2", "-std=c11", "-fvisibility=hidden"]
# Of what is built, not of this machine: tools/wheels builds for others.
suffix = os.environ.get("SETUPTOOLS_EXT_SUFFIX") or sysconfig.get_config_var("EXT_SUFFIX")
if sys.platform == "linux":
    # Left on, GCC merges the fast path's two counters into one slower 16-byte read-modify-write.
    flags.append("-fno-tree-slp-vectorize")
    if "musl" not in suffix:
        # Thread state without a call. musl refuses this model in a module that is loaded late.
        flags.append("-ftls-model=initial-exec")
if sysconfig.get_platform().endswith("x86_64"):
    flags.append("-fcf-protection=none")  # no landing pads in functions that only forward


class BuildExt(build_ext):
    """Our C is compiled with warnings on; the C that Cython generates is not ours to mend."""

    def build_extension(self, ext):
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
        if not shutil.which(compiler):
            sys.exit(
                f"fastalloc-recorder: no C compiler ({compiler} is not on PATH); install one "
                "(Debian and Ubuntu: apt-get install gcc) or use a wheel"
            )
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
