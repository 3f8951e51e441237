"""The one error of the reading wing."""

from __future__ import annotations


class RecordingError(ValueError):
    """A recording could not be read.

    The message is one sentence: which file, what is wrong with it, and what to do.
    """
