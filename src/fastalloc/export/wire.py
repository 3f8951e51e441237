"""How memray writes a number or a string: little-endian, unaligned, no padding.

u8 i32 u64 i64   raw
cstring          UTF-8 bytes and a NUL
uvarint          7 bits a byte, low group first, 0x80 = more follows
svarint          zig-zag (0, -1, 1, -2 ...), then uvarint
Delta            svarint of the difference from the value written before
"""

import struct
from collections.abc import Callable

MASK_64 = (1 << 64) - 1
SIGN_64 = 1 << 63

Encode = Callable[[int], bytes]

u8: Encode = struct.Struct("<B").pack
i32: Encode = struct.Struct("<i").pack
u32: Encode = struct.Struct("<I").pack
u64: Encode = struct.Struct("<Q").pack
i64: Encode = struct.Struct("<q").pack


def cstring(text: str) -> bytes:
    """Encode text; memray's reader needs valid UTF-8, and a NUL inside would end it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace") + b"\0"


def uvarint(number: int) -> bytes:
    """Encode a number of 0 .. 2^64-1."""
    if number < 0x80:
        return u8(number)
    if number < 0x4000:  # most are: worth a way without a loop
        return bytes((0x80 | number & 0x7F, number >> 7))
    groups = bytearray()
    while number >= 0x80:
        groups.append(0x80 | number & 0x7F)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def svarint(number: int) -> bytes:
    """Encode a number of -2^63 .. 2^63-1."""
    return uvarint(number << 1 if number >= 0 else (-number << 1) - 1)


def wrapped(number: int) -> int:
    """Return the number as 64-bit two's complement arithmetic leaves it."""
    return (number + SIGN_64 & MASK_64) - SIGN_64


class Delta:
    """A register of the format: only differences from its last value are written."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self, number: int) -> bytes:
        encoded = svarint(wrapped(number - self.last))
        self.last = number
        return encoded
