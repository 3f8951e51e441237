"""`manage.py fastalloc COMMAND ...`: the command line, with the options that settings give."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from fastalloc.integrations.django import options

FORWARDED = ("dir", "token_secret")  # what commands need to know of the service's options


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Hands its arguments on to `fastalloc`."""

    help = "The fastalloc command line (status, top, token ...) for this project's options."
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def run_from_argv(self, argv: list[str]) -> None:
        """Everything after `manage.py fastalloc` belongs to `fastalloc`, its --help as well."""
        sys.exit(self._forward(argv[2:]))

    def handle(self, *args: Any, **kwargs: Any) -> None:
        """For call_command("fastalloc", "status")."""
        status = self._forward([str(word) for word in args])
        if status:
            raise SystemExit(status)

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("args", nargs="*")

    def _forward(self, arguments: list[str]) -> int:
        from fastalloc import cli

        given = options.of_recorder(settings)
        for name in FORWARDED:
            if given.get(name):
                os.environ.setdefault(f"FASTALLOC_{name.upper()}", str(given[name]))
        return cli.main(arguments)
