"""What was promised, and what was found."""

from __future__ import annotations

from typing import Any

from benchmarks import comparison, counting, floors, ratios
from benchmarks.comparison import label
from benchmarks.tables import Table
from benchmarks.workloads import WORKLOADS

Document = dict[str, Any]
STANDBY, SHARE, NATIVE_LIMIT = 1.003, 0.5, 1.02
VERDICTS = {
    (True, True): "met",
    (True, False): "met?",
    (False, False): "missed?",
    (False, True): "**missed**",
}
"""By whether it is within the limit, and whether that is beyond noise."""


def light(document: Document) -> float:
    """What light mode may cost, over none."""
    return 1.03 if document["interpreter"]["optimized"] else 1.015


def table(compared: list[Document], counted: list[Document]) -> Table:
    """One row per target and build."""
    shown = Table(
        "Targets",
        ["", "target", "found", ""],
        note='"met?", "missed?": by less than two standard errors. Incomplete: not every workload was measured, so '
        "nothing is said. Worst: of the workloads, with its name.",
    )

    def add(
        what: str, limit: float, found: float, error: float = 0, digits: int = 3, name: str = ""
    ) -> None:
        sure = abs(found - limit) >= 2 * error
        verdict = VERDICTS[found <= limit, sure]
        told = f"{found:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")
        shown.rows.append([what, f"at most {limit}", told + (name and f", {name}"), verdict])

    def incomplete(what: str, measured: int) -> None:
        shown.rows.append([what, "", f"{measured} of {len(WORKLOADS)} workloads", "incomplete"])

    for document in compared:
        title = label(document)
        native = comparison.native_median(document)
        if native:
            what = f"{title}: native, CPU, median over the native workloads"
            add(what, NATIVE_LIMIT, native.mean, native.error)
        if comparison.missing_workloads(document):
            incomplete(f"{title}: CPU", len(document["workloads"]))
            continue
        means = comparison.means_of(document)
        if "light" in means:
            add(f"{title}: light, CPU", light(document), *means["light"])
        if "standby" in means:
            add(f"{title}: standby, CPU", STANDBY, *means["standby"])
        if "light" in means and means.get("ddtrace", (1,))[0] > 1:
            add(f"{title}: light's added CPU over ddtrace's", SHARE, *_share(means), digits=2)
        beside = floors.times(document)
        if len(beside) == len(WORKLOADS):
            worst = max(beside, key=lambda name: beside[name].mean)
            ratio = beside[worst]
            what = f"{title}: light over hooks that forward all, CPU, worst"
            add(what, 1, ratio.mean, ratio.error, name=worst)
    for document in counted:
        title = label(document)
        pair = document["pairs"].get(counting.PAIR, {})
        if "light" in pair and "none" in pair:
            limit = 20 if document["interpreter"]["optimized"] else 12
            added = pair["light"] - pair["none"]
            add(f"{title}: instructions added to a small pair", limit, added, digits=1)
        counts = document["workloads"]
        if set(counts) != set(WORKLOADS):
            incomplete(f"{title}: instructions of the workloads", len(counts))
            continue
        means = {
            name: (ratios.geomean(each[name] / each["none"] for each in counts.values()), 0.0)
            for name in ("standby", "light", "ddtrace")
            if all(name in each and "none" in each for each in counts.values())
        }
        if "light" in means:
            add(f"{title}: light, instructions", light(document), *means["light"])
        if "standby" in means:
            add(f"{title}: standby, instructions", STANDBY, *means["standby"])
        if "light" in means and means.get("ddtrace", (1,))[0] > 1:
            what = f"{title}: light's added instructions over ddtrace's"
            add(what, SHARE, *_share(means), digits=2)
        summed = floors.counts(document)
        if summed:
            worst = max(summed, key=lambda name: summed[name])
            what = f"{title}: light over hooks that forward all, instructions, worst"
            add(what, 1, summed[worst], digits=4, name=worst)
    return shown


def _share(means: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """What light mode adds over what ddtrace adds, and its error: the first one's, as far as that goes."""
    (ours, error), (theirs, _) = means["light"], means["ddtrace"]
    return (ours - 1) / (theirs - 1), error / (theirs - 1)
