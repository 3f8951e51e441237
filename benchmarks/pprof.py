"""Reads profiles in pprof's format, as ddtrace writes them and Pyroscope uploads them: values by line.

The messages are those parts of https://github.com/google/pprof/blob/main/proto/profile.proto, and of Pyroscope's
push.v1, that are needed here; protobuf reads them, and skips the others.
"""

from __future__ import annotations

import gzip
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ZSTANDARD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"

# by message: (name, number, kind, repeated); a kind that is no scalar is a message of this table
MESSAGES = {
    "ValueType": [("type", 1, "int64", False)],
    "Sample": [("location_id", 1, "uint64", True), ("value", 2, "int64", True)],
    "Line": [("function_id", 1, "uint64", False), ("line", 2, "int64", False)],
    "Location": [("id", 1, "uint64", False), ("line", 4, "Line", True)],
    "Function": [("id", 1, "uint64", False), ("filename", 4, "int64", False)],
    "Profile": [
        ("sample_type", 1, "ValueType", True),
        ("sample", 2, "Sample", True),
        ("location", 4, "Location", True),
        ("function", 5, "Function", True),
        ("string_table", 6, "string", True),
    ],
    "RawSample": [("raw_profile", 1, "bytes", False)],
    "Series": [("samples", 2, "RawSample", True)],
    "PushRequest": [("series", 1, "Series", True)],
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="benchmarks.proto", package="benchmarks", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = described.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".benchmarks.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"benchmarks.{name}"))
        for name in MESSAGES
    }


CLASSES = _classes()


def unpacked(content: bytes) -> bytes:
    """Without its compression."""
    if content.startswith(GZIP):
        return gzip.decompress(content)
    if content.startswith(ZSTANDARD):
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(content) as reader:
            return bytes(reader.read())
    return content


def pushed(body: bytes) -> list[bytes]:
    """The profiles in one upload of Pyroscope's."""
    request = CLASSES["PushRequest"].FromString(unpacked(body))
    return [sample.raw_profile for series in request.series for sample in series.samples]


def by_line(content: bytes, value: str, path: str) -> dict[int, float] | None:
    """Values of the type `value` by line: of each stack, the innermost line in a file whose name ends with `path`.
    None: the profile has no such values."""
    profile = CLASSES["Profile"].FromString(unpacked(content))
    texts = profile.string_table
    types = [texts[each.type] for each in profile.sample_type]
    if value not in types:
        return None
    place = types.index(value)
    ours = {each.id for each in profile.function if texts[each.filename].endswith(path)}
    lines = {
        location.id: next((each.line for each in location.line if each.function_id in ours), None)
        for location in profile.location
    }
    found: dict[int, float] = {}
    for sample in profile.sample:
        line = next((lines[each] for each in sample.location_id if lines[each] is not None), None)
        if line is not None:
            found[line] = found.get(line, 0.0) + sample.value[place]
    return found
