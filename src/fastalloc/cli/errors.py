"""What a command raises when its input is at fault."""

from __future__ import annotations


class CommandError(Exception):
    """Bad input. The message is one line: what is wrong and what to do. The exit status is 2."""
