"""The live table does what a dict does, and knows what each site held at the high-water mark."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOLDEN = 0x9E3779B97F4A7C15  # of live_hash


def addresses_of_home(home: int, count: int, bits: int = 12) -> list[int]:
    """Addresses whose entries begin their search at the same place of the index."""
    inverse = pow(GOLDEN, -1, 1 << 64)
    found: list[int] = []
    low = 1
    while len(found) < count:
        block = ((home << (64 - bits)) + low * 0x9E3779B1) * inverse % (1 << 64)
        low += 1
        if 0 < block < 1 << 60:  # an address is 16 times this
            found.append(block << 4)
    return found


# Three neighbouring homes and the wrap-around, some addresses each, and some anywhere.
CROWDED = [address for home in (7, 8, 9, 4095, 0) for address in addresses_of_home(home, 12)]
ADDRESSES = st.one_of(
    st.sampled_from(CROWDED), st.integers(1, 2**44).map(lambda number: number * 16)
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("a"), ADDRESSES, st.integers(1, 10**6), st.integers(1, 4)),
        st.tuples(st.sampled_from("tm"), ADDRESSES),
        st.tuples(st.just("t"), st.sampled_from(CROWDED), st.sampled_from("rf")),
        st.tuples(st.just("d"), st.integers(0, 2)),
        st.tuples(st.just("s")),
    ),
    max_size=400,
)


class Twin:
    """The table as a dict: address -> (size, weight, site), and what it must tell."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[int, int, int]] = {}
        self.high_water, self.at_high_water = 0, Counter[int]()
        self.freed = self.stale = 0

    def bytes_by_site(self) -> Counter[int]:
        held: Counter[int] = Counter()
        for _, weight, site in self.live.values():
            held[site] += weight
        return held

    def add(self, address: int, size: int, weight: int, site: int) -> None:
        if address in self.live:
            del self.live[address]
            self.stale += 1
        self.live[address] = size, weight, site
        held = self.bytes_by_site()
        if held.total() > self.high_water:
            self.high_water, self.at_high_water = held.total(), held

    def state(self) -> str:
        held = self.bytes_by_site()
        samples = Counter(site for _, _, site in self.live.values())
        numbers = [held.total(), len(self.live), self.high_water, self.freed, self.stale]
        for site in range(1, 5):
            numbers += [held[site], self.at_high_water[site], samples[site]]
        return " ".join(map(str, numbers))


def play(operations: list[tuple]) -> Iterator[tuple[str, str | None]]:
    """The lines of the script, each with the answer that the table must give (None: none)."""
    twin = Twin()
    for operation in operations:
        match operation:
            case "a", address, size, site:
                twin.add(address, size, size * 3, site)
                yield f"a {address} {size} {size * 3} {site}", None
            case "t", address, *then:
                taken = twin.live.pop(address, None)
                yield f"t {address}", f"{taken[0]} {taken[1]}" if taken else "-"
                if taken and then == ["r"]:
                    twin.add(address, *taken)
                    yield "r", None
                elif taken:
                    twin.freed += 1
                    yield "f", None
            case "m", address:
                # An address that is in must be seen; one that is not may be.
                yield f"m {address}", "1" if address in twin.live else "?"
            case "d", domain:
                twin.live = {a: s for a, s in twin.live.items() if s[2] % 3 != domain}
                yield f"d {domain}", None
            case ("s",):
                yield "s", twin.state()
        yield "s", twin.state()


def run(program: Path, folder: Path, lines: list[tuple[str, str | None]], capacity: int) -> None:
    done = subprocess.run(
        [program, folder, str(capacity)],
        input="\n".join(line for line, _ in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
    )
    assert done.returncode == 0, done.stderr
    wanted = [(line, answer) for line, answer in lines if answer is not None]
    given_answers = done.stdout.splitlines()
    assert len(given_answers) == len(wanted)
    for at, ((line, answer), got) in enumerate(zip(wanted, given_answers, strict=True)):
        assert answer in ("?", got), f"answer {at}, to {line!r}: {got!r} instead of {answer!r}"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=OPERATIONS)
def test_the_table_does_what_a_dict_does(
    native_program: Callable[[str, str], Path], tmp_path: Path, operations: list[tuple]
) -> None:
    program = native_program("live_script.c", "address")
    run(program, tmp_path, list(play(operations)), 16384)


@pytest.mark.parametrize("blocks", [500, 5000])
def test_the_table_grows_its_index_and_shrinks_again(
    native_program: Callable[[str, str], Path], tmp_path: Path, blocks: int
) -> None:
    program = native_program("live_script.c", "address")
    addresses = [*CROWDED, *range(1 << 20, (1 << 20) + blocks * 4096, 4096)]
    lines: list[tuple[str, str | None]] = [(f"a {a} 10 30 1", None) for a in addresses]
    lines += [(f"m {a}", "1") for a in addresses]
    lines += [(f"t {a}", "10 30") for a in addresses[::2]]
    lines += [(f"m {a}", "1") for a in addresses[1::2]]
    lines += [(f"t {a}", "-") for a in addresses[::2]]
    lines += [(f"t {a}", "10 30") for a in addresses[1::2]]
    lines += [(f"m {a}", "0") for a in addresses]
    lines += [("s", f"0 0 {30 * len(addresses)} 0 0 0 {30 * len(addresses)} 0 0 0 0 0 0 0 0 0 0")]
    run(program, tmp_path, lines, 16384)


def test_the_filter_lets_most_strangers_pass(
    native_program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    program = native_program("live_script.c", "none")
    lines = [f"a {a} 10 30 1" for a in range(1 << 20, (1 << 20) + 3000 * 4096, 4096)]
    strangers = [f"m {a}" for a in range(1 << 40, (1 << 40) + 20_000 * 48, 48)]
    done = subprocess.run(
        [program, tmp_path, "16384"],
        input="\n".join(lines + strangers),
        capture_output=True,
        text=True,
        check=True,
    )
    # The index is at most an eighth full.
    assert done.stdout.count("1") < len(strangers) / 6
