"""Recordings in the formats of other tools: memray's files and its flame graphs."""

from fastalloc.export.errors import ExportError
from fastalloc.export.memray_file import export_memray
from fastalloc.export.reports import flamegraph

__all__ = ["ExportError", "export_memray", "flamegraph"]
