"""One word per concept: synonyms that docs/glossary.md rules out do not occur in the sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fastalloc"

SUFFIXES = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".c", ".h"}

# A synonym, in prose and in names, and our word for it.
BANNED = {
    r"call[ _-]?sites?": "site",
    r"backtraces?": "stack",
    r"call[ _-]stacks?": "stack",
    r"watermarks?": "high-water mark",
    r"in[_-]use[ _]bytes": "live_bytes",
    r"sampl(?:e|ing)[ _-](?:rate|period|size)": "interval",
    r"milestones?": "checkpoint",
    r"shenanigans|mojo|danger": "a noun of the glossary",
}
NOT_IN_EXPORT = {
    r"profiles?": "recording (profile is pprof's word)",
    r"captur(?:e|es|ed|ing)": "record (capture is memray's word)",
}
NOT_BESIDE_DATABASES = {r"transactions?": "span"}
# Where the foreign word is meant.
ALLOWED = re.compile(
    r"setprofile|cprofile|remove_non_capturing_groups|capture wing|capture_(?:output|warnings)|x.force.memory.profile"
)

SOURCES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES)


def banned_in(room: str) -> dict[str, str]:
    """The words that the room `room` must not use."""
    banned = dict(BANNED)
    if room != "export":
        banned |= NOT_IN_EXPORT
    if room not in ("demo", "integrations"):
        banned |= NOT_BESIDE_DATABASES
    return banned


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sources_use_the_glossarys_words(path: Path) -> None:
    found = [
        f"{path.name}:{number}: '{match[0]}' (our word: {ours})"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for pattern, ours in banned_in(path.relative_to(PACKAGE).parts[0]).items()
        for match in re.finditer(
            rf"(?<![a-z])(?:{pattern})(?![a-z])", ALLOWED.sub("", line.lower())
        )
    ]
    assert not found, "\n".join(found)


def test_the_glossary_defines_each_of_our_words() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    for word in ("sample", "weight", "interval", "site", "live heap", "high-water mark", "span"):
        assert f"**{word}**" in glossary
