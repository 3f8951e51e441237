"""The docs cannot drift: every command, every option and every setting is written down."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from fastalloc.cli import COMMANDS, build_parser
from fastalloc.config import OPTIONS, Option

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser."""
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the parser has no commands")


def section(name: str) -> str:
    """What docs/cli.md says of a command."""
    text = (DOCS / "cli.md").read_text()
    match = re.search(rf"^## fastalloc {name}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"docs/cli.md has no section '## fastalloc {name}'"
    return match[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented(name: str) -> None:
    text = section(name)
    options = {
        option
        for action in commands()[name]._actions
        if not isinstance(action, argparse._HelpAction)
        for option in action.option_strings
    }
    missing = [option for option in options if not re.search(rf"`{option}[ `]", text)]
    assert not missing, f"docs/cli.md says nothing of {missing}"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_documented_that_does_not_exist(name: str) -> None:
    documented = set(re.findall(r"^\|.*?`(--?[a-z-]+)", section(name), re.MULTILINE))
    options = {option for action in commands()[name]._actions for option in action.option_strings}
    assert documented <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_has_help(name: str) -> None:
    assert COMMANDS[name].__doc__
    assert all(action.help for action in commands()[name]._actions)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_setting_is_documented(option: Option) -> None:
    text = (DOCS / "options.md").read_text()
    assert f"`{option.name}`" in text
    assert f"`FASTALLOC_{option.name.upper()}`" in text
    assert option.doc.partition(". ")[0].rstrip(".") in text.replace("\n", " ")


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_reachable_from_the_readme() -> None:
    text = "".join(page.read_text() for page in ROOT.glob("*.md"))
    for page in DOCS.glob("*.md"):
        assert f"docs/{page.name}" in text, f"no page at the top links to docs/{page.name}"
