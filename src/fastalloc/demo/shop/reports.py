"""The view that bloats: a statement of account that keeps everything it ever read.

It looks harmless, passed its review, and is fast on the second page view: the order lines of a
customer's whole segment are read once, turned into rows, and remembered for the next page.
Nobody removes them, so each customer looked at adds some megabytes to the worker, for good.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.shortcuts import get_object_or_404, render

from .models import Customer, OrderLine

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

COLUMNS: dict[str, Any] = {
    "line": attrgetter("pk"),
    "order": attrgetter("order_id"),
    "status": attrgetter("order.status"),
    "placed": attrgetter("order.placed"),
    "year": attrgetter("order.placed.year"),
    "month": attrgetter("order.placed.month"),
    "day": attrgetter("order.placed.day"),
    "hour": attrgetter("order.placed.hour"),
    "minute": attrgetter("order.placed.minute"),
    "second": attrgetter("order.placed.second"),
    "zone": attrgetter("order.placed.tzinfo"),
    "customer": attrgetter("order.customer_id"),
    "customer_name": attrgetter("order.customer.name"),
    "product": attrgetter("product_id"),
    "product_name": attrgetter("product.name"),
    "sku": attrgetter("product.sku"),
    "list_price": attrgetter("product.price"),
    "unit_price": attrgetter("unit_price"),
    "discount": lambda line: line.product.price - line.unit_price,
    "quantity": attrgetter("quantity"),
    "total": OrderLine.total,
    "text": str,
}

_rows_by_customer: dict[int, list[dict[str, Any]]] = {}


def statement(request: HttpRequest, customer_id: int) -> HttpResponse:
    """A customer's lines beside those of the whole segment, page by page."""
    customer = get_object_or_404(Customer, pk=customer_id)
    if customer_id not in _rows_by_customer:
        _rows_by_customer[customer_id] = segment_rows(customer.segment)
    page = Paginator(_rows_by_customer[customer_id], 50).get_page(request.GET.get("page"))
    return render(request, "shop/statement.html", {"customer": customer, "page": page})


def segment_rows(segment: str) -> list[dict[str, Any]]:
    """Every order line of a segment, ready for the template."""
    lines = OrderLine.objects.filter(order__customer__segment=segment)
    rows = []
    for line in lines.select_related("order__customer", "product"):
        rows.append({name: value_of(line) for name, value_of in COLUMNS.items()})
    return rows
