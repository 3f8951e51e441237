"""Light mode adds no more instructions to an allocation than benchmarks/budgets.json allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.interpreters import ROOT, describe

from benchmarks import counting, instructions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(counting.missing()), reason=counting.missing() or "valgrind is there"),
]

DEBIAN = Path("/usr/bin/python3.11")
"""With PGO and LTO, as production runs: the core that was compiled for this interpreter runs in it as well."""
COMMON = ["OBJ malloc(48) + free", "MEM malloc(48) + free", "OBJ malloc(600) + free"]
CASES = [case for case in counting.CASES if instructions.budget(case, optimized=False) is not None]


@pytest.fixture(scope="module")
def counted() -> dict[str, dict[str, float]]:
    python = Path(sys.executable)
    found, failed = counting.pair_instructions(python, ["none", "standby", "light"], CASES)
    assert not failed
    return found


@pytest.mark.parametrize("case", CASES)
def test_light_keeps_within_its_budget(case: str, counted: dict[str, dict[str, float]]) -> None:
    budget = instructions.budget(case, describe(sys.executable).optimized)
    assert budget is not None
    assert counted[case]["light"] - counted[case]["none"] <= budget


@pytest.mark.parametrize("case", ["OBJ malloc(48) + free", "MEM malloc(48) + free"])
def test_standby_adds_nothing_to_small_blocks(
    case: str, counted: dict[str, dict[str, float]]
) -> None:
    assert counted[case]["standby"] - counted[case]["none"] == pytest.approx(0, abs=0.5)


@pytest.mark.skipif(
    not DEBIAN.exists() or sys.version_info[:2] != (3, 11), reason="no Debian build of this version"
)
def test_light_keeps_within_its_budget_on_a_build_with_pgo() -> None:
    optimized = describe(DEBIAN).optimized
    found, failed = counting.pair_instructions(
        DEBIAN, ["none", "light"], COMMON, compiler=Path(sys.executable), paths=[ROOT / "src"]
    )
    assert not failed
    for case in COMMON:
        budget = instructions.budget(case, optimized)
        assert budget is not None
        assert found[case]["light"] - found[case]["none"] <= budget, case
