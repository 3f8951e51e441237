"""The recording: its layout, and how it is read. Imports nothing of ours.

`errors` alone is cheap to import; the rest loads numpy. `reader.read` is the way in.
"""

from __future__ import annotations

from fastalloc.recording.errors import RecordingError

__all__ = ["RecordingError"]
