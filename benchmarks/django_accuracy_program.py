"""A Django application's ORM, templates and JSON at work, and what a profiler says of the lines that hold memory
then: `... PROFILER SCRATCH`, PROFILER one of READERS.

Prints a JSON object: "path:line" of the leaf -> [bytes, one standard error], of Python's own domains only.
SHOP_DATABASE names the shop's database.
"""

from __future__ import annotations

import glob
import json
import os
import sys

from benchmarks.profilers import PROFILERS, kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Answer = dict[str, tuple[float, float]]


def work() -> list[object]:
    """What a service could hold: model instances, pages, documents. Nothing in it is random."""
    from django.template.loader import render_to_string

    from fastalloc.demo.shop.models import Customer, Order, OrderLine

    lines = list(OrderLine.objects.select_related("order__customer", "product")[:6000])
    orders = list(Order.objects.select_related("customer").prefetch_related("lines"))
    rows = list(OrderLine.objects.values("order_id", "product__name", "quantity", "unit_price"))
    customers = list(Customer.objects.values_list("name", "city", "segment"))
    pages = [
        render_to_string(
            "shop/order.html", {"order": order, "lines": list(order.lines.all()), "total": number}
        )
        for number, order in enumerate(orders[:400])
    ]
    text = json.dumps(rows, default=str)
    documents = [json.loads(text) for _ in range(3)]
    return [lines, orders, rows, customers, pages, text, documents]


def _fastalloc(scratch: str) -> Answer:
    import fastalloc

    rows = fastalloc.snapshot().top(group="line", limit=100_000)
    return {str(row.key): (float(row.live_bytes), float(row.error_bytes)) for row in rows}


def _memray(scratch: str) -> Answer:
    import memray

    kept[0].__exit__(None, None, None)
    python = {kind for kind in memray.AllocatorType if kind.name.startswith("PYMALLOC")}
    found: dict[str, float] = {}
    reader = memray.FileReader(glob.glob(scratch + "/memray-*.bin")[0])
    for record in reader.get_leaked_allocation_records(merge_threads=True):
        stack = record.stack_trace(max_stacks=1)
        if record.allocator in python and stack:
            _, path, line = stack[0]
            found[f"{path}:{line}"] = found.get(f"{path}:{line}", 0.0) + record.size
    return {key: (size, 0.0) for key, size in found.items()}


READERS: dict[str, Any] = {"aggressive": _fastalloc, "memray_python": _memray}


def main(profiler: str, scratch: str) -> None:
    """Print the answer."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fastalloc.demo.project.settings")
    import django

    django.setup()
    PROFILERS[profiler].start(scratch)
    held = work()
    found = READERS[profiler](scratch)
    assert held
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
