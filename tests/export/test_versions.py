"""Which memray reads which format."""

from __future__ import annotations

import pytest

from fastalloc.export import ExportError, versions
from fastalloc.export.records import Allocator
from fastalloc.export.versions import chosen_version, format_for, pymalloc_for


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("1.7.0", 10),
        ("1.8.1", 10),
        ("1.10.0", 10),
        ("1.11.0", 11),
        ("1.18.0", 11),
        ("1.19.1", 12),
        ("1.19.3", 12),
        ("1.20.0", 13),
        ("1.20.1", 13),
        ("1.20", 13),
    ],
)
def test_each_release_has_its_format(version: str, number: int) -> None:
    assert format_for(version) == number


@pytest.mark.parametrize("version", ["1.21.0", "1.100.0", "2.0.0"])
def test_a_newer_release_is_refused_with_the_known_ones(version: str) -> None:
    with pytest.raises(ExportError, match=r"newer than .* knows.*1\.7 to 1\.20"):
        format_for(version)


@pytest.mark.parametrize("version", ["1.6.0", "0.9"])
def test_an_older_release_is_refused_with_the_known_ones(version: str) -> None:
    with pytest.raises(ExportError, match=r"too old.*1\.7 to 1\.20"):
        format_for(version)


@pytest.mark.parametrize("version", ["", "latest", "1", "v1.20.0", "1."])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ExportError, match="is not a memray version"):
        format_for(version)


def test_the_withdrawn_release_gets_an_allocator_that_it_can_show() -> None:
    assert format_for("1.19.0") == 12
    assert pymalloc_for("1.19.0") is Allocator.PYMALLOC_CALLOC
    assert pymalloc_for("1.19.1") is Allocator.PYMALLOC_MALLOC


def test_the_installed_release_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed_memray", lambda: "1.12.0")
    assert chosen_version(None) == "1.12.0"
    assert chosen_version("1.20.0") == "1.20.0"


def test_without_a_memray_the_version_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed_memray", lambda: None)
    with pytest.raises(ExportError, match="memray is not installed here"):
        chosen_version(None)
    assert chosen_version("1.20.0") == "1.20.0"
