"""Tokens: what is forged, changed, expired or bare is worth nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fastalloc import tokens

SECRET = "a secret of the service, long enough"
NOW = 1_700_000_000.0


def test_a_token_is_good_for_its_route_until_it_expires() -> None:
    token = tokens.make(SECRET, "/orders/<int:order_id>/", 10, now=NOW)
    assert tokens.check(token, SECRET, now=NOW + 599) == "/orders/<int:order_id>/"
    assert tokens.check(token, SECRET, now=NOW + 600) is None
    assert tokens.check(tokens.make(SECRET, now=NOW), SECRET, now=NOW) == ""


@pytest.mark.parametrize(
    "bare", ["", "true", "1", "v1", "v1..", "v1...", "v1.9999999999..", "é" * 9]
)
def test_a_bare_header_is_worth_nothing(bare: str) -> None:
    assert tokens.check(bare, SECRET) is None


def test_without_a_secret_nothing_is_good() -> None:
    assert tokens.check(tokens.make("", now=NOW), "", now=NOW) is None
    assert tokens.check(tokens.make("another secret, also long", now=NOW), SECRET, now=NOW) is None


def test_every_changed_character_spoils_it() -> None:
    token = tokens.make(SECRET, "/a", now=NOW)
    for at, was in enumerate(token):
        for other in "AZ09.-":
            if other != was:
                changed = token[:at] + other + token[at + 1 :]
                assert tokens.check(changed, SECRET, now=NOW) is None, changed


def test_a_long_header_is_not_even_looked_at() -> None:
    assert tokens.check(tokens.make(SECRET, "x" * 1000, now=NOW), SECRET, now=NOW) is None


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastalloc", "token", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", **environment},
    )


def test_the_command_makes_one() -> None:
    done = command("--route", "/a", "--minutes", "1", FASTALLOC_TOKEN_SECRET=SECRET)
    assert tokens.check(done.stdout.strip(), SECRET) == "/a"
    done = command("--json", FASTALLOC_TOKEN_SECRET=SECRET)
    answer = json.loads(done.stdout)
    assert tokens.check(answer["token"], SECRET, now=answer["expires"] - 1) == ""
    assert tokens.check(answer["token"], SECRET, now=answer["expires"] + 1) is None


@pytest.mark.parametrize(
    ("arguments", "secret", "said"),
    [
        ([], "", "there is no secret to sign with"),
        ([], "short", "16 characters"),
        (["--minutes", "0"], SECRET, "--minutes"),
        (["--minutes", "1e9"], SECRET, "--minutes"),
        (["--route", "x" * 300], SECRET, "--route"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, secret, said) -> None:
    done = command(*arguments, **({"FASTALLOC_TOKEN_SECRET": secret} if secret else {}))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr
