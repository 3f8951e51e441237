"""How to compile the one extension, fastalloc._core. All else is in pyproject.toml."""

import gzip
import os
import shlex
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

PACKAGE = Path("src/fastalloc")
NATIVE = PACKAGE / "native"
WARNINGS = ["-Wall", "-Wextra"] + (["-Werror"] if os.environ.get("FASTALLOC_WERROR") == "1" else [])

# What is jumped to need not be aligned: hooks are to take few lines of a cache that the program fills.
flags = ["-O2", "-std=c11", "-fvisibility=hidden", "-falign-jumps=1", "-falign-labels=1"]
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


def check_tools():
    """Stop with one line where the extension cannot be compiled. SystemExit."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if not shutil.which(compiler):
        sys.exit(
            f"fastalloc-recorder: no C compiler ({compiler} is not on PATH); install one "
            "(Debian and Ubuntu: apt-get install gcc) or use a wheel"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        sys.exit(
            f"fastalloc-recorder: no Python.h in {headers}; install Python's headers "
            "(Debian and Ubuntu: apt-get install python3-dev) or use a wheel"
        )


# Before anything is built: what goes well first would hide the one line that matters.
if {"bdist_wheel", "build", "build_ext", "editable_wheel", "install"} & set(sys.argv):
    check_tools()


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


class SourceDistribution(sdist):
    """With SOURCE_DATE_EPOCH, the same files give the same archive, whenever and by whomever it is made."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, **owner)

        def anyones(member):
            member.mtime, member.uid, member.gid = int(epoch), 0, 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            return member

        name = f"{base_name}.tar.gz"
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with (
            gzip.GzipFile(name, "wb", mtime=int(epoch)) as file,
            tarfile.open(mode="w", fileobj=file) as archive,
        ):
            archive.add(base_dir, filter=anyones)
        return name


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
    cmdclass={"build_ext": BuildExt, "sdist": SourceDistribution},
)
