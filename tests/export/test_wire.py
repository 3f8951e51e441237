"""memray's numbers and strings, decoded by a decoder written from the format's description."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastalloc.export.wire import Delta, cstring, svarint, uvarint

SIGNED = st.integers(-(1 << 63), (1 << 63) - 1)
UNSIGNED = st.integers(0, (1 << 64) - 1)


def read_uvarint(data: bytes) -> tuple[int, bytes]:
    number = 0
    for position, byte in enumerate(data):
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return number, data[position + 1 :]
    raise AssertionError("no last byte")


def read_svarint(data: bytes) -> tuple[int, bytes]:
    number, rest = read_uvarint(data)
    return (number >> 1 if number % 2 == 0 else -(number >> 1) - 1), rest


@given(UNSIGNED)
def test_an_unsigned_number_is_read_back(number: int) -> None:
    assert read_uvarint(uvarint(number)) == (number, b"")
    assert len(uvarint(number)) <= 10


@given(SIGNED)
def test_a_signed_number_is_read_back(number: int) -> None:
    assert read_svarint(svarint(number)) == (number, b"")


def test_numbers_are_encoded_as_memray_writes_them() -> None:
    assert uvarint(0) == b"\x00"
    assert uvarint(127) == b"\x7f"
    assert uvarint(128) == b"\x80\x01"
    assert uvarint(16_383) == b"\xff\x7f"
    assert uvarint(16_384) == b"\x80\x80\x01"
    assert [svarint(n) for n in (0, -1, 1, -2)] == [b"\x00", b"\x01", b"\x02", b"\x03"]


@given(st.lists(UNSIGNED))
def test_differences_add_up_to_the_numbers_in_64_bits(numbers: list[int]) -> None:
    delta, last = Delta(), 0
    for number in numbers:
        difference, rest = read_svarint(delta(number))
        last = (last + difference) % (1 << 64)
        assert (last, rest) == (number, b"")


@given(st.text())
def test_a_string_is_valid_utf8_with_one_nul_at_its_end(text: str) -> None:
    encoded = cstring(text)
    assert encoded.index(b"\0") == len(encoded) - 1
    assert encoded.decode("utf-8")[:-1] == text.replace("\0", "\ufffd")


def test_what_utf8_cannot_express_is_replaced() -> None:
    assert cstring("a\udcffb") == b"a?b\0"
