"""Numbers that options take."""

from __future__ import annotations

import argparse
import math


def positive_count(text: str) -> int:
    """A whole number from 1 on."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return count


def positive_seconds(text: str) -> float:
    """A time greater than 0."""
    seconds = float(text)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"{text} is not a time greater than 0")
    return seconds
