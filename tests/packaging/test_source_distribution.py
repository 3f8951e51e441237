"""A user without a wheel: what pip does with the source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of what git tracks."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("sdist")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (made,) = folder.glob("*.tar.gz")
    return made


def test_with_a_compiler_alone_it_becomes_a_working_command(sdist: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env/bin/python"
    # With build isolation: pip gets what pyproject.toml asks for, into an environment of its own.
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", str(sdist)], capture_output=True, text=True
    )
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("pip reaches no package index from here")
    assert done.returncode == 0, done.stderr[-3000:]
    directory = tmp_path / "recordings"
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FASTALLOC_"))},
        "FASTALLOC_DIR": str(directory),
    }
    fastalloc = str(tmp_path / "env/bin/fastalloc")
    program = tmp_path / "program.py"
    program.write_text("kept = [bytes(1000) for _ in range(100_000)]\n")
    subprocess.run([fastalloc, "run", str(program)], env=env, check=True, cwd=tmp_path)
    (recording,) = directory.glob("*.recording")
    top = subprocess.run(
        [fastalloc, "top", str(recording)],
        env=env,
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "program.py" in top.stdout


def test_without_a_compiler_pip_ends_with_one_line_that_says_so(
    sdist: Path, tmp_path: Path
) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("CC", "LDSHARED")}
    # Without isolation: what building needs is in this environment, so that only the compiler is missing.
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    done = subprocess.run(
        [
            *command,
            "--no-build-isolation",
            "--no-deps",
            "--target",
            str(tmp_path / "to"),
            str(sdist),
        ],
        env=env | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    said = [number for number, line in enumerate(lines) if "compiler" in line]
    assert len(said) == 1 and len(lines) < 16, done.stderr  # the rest is pip's own
    assert "fastalloc-recorder: no C compiler (" in lines[said[0]]
    assert len(lines) - said[0] < 8, "it is not near the end"
    assert "Traceback" not in done.stderr


def test_it_holds_what_its_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert {"benchmarks", "docs", "src", "tests", "tools", "wheels-arm64"} <= folders
    listing = subprocess.run(
        ["git", "ls-files", "tests", "tools", "benchmarks", "wheels-arm64"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(listing.stdout.split()) - names == set()


def test_it_is_the_same_whenever_it_is_made(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    made = []
    for umask in (0o022, 0o077):
        folder = tmp_path / oct(umask)
        for file in (path for path in tree.rglob("*") if path.is_file()):
            os.utime(file)
        command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(folder)]
        env = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(command, cwd=tree, env=env, umask=umask, check=True, capture_output=True)
        made.append(next(folder.glob("*.tar.gz")).read_bytes())
        shutil.rmtree(tree / "src/fastalloc_recorder.egg-info")
    assert made[0] == made[1]
