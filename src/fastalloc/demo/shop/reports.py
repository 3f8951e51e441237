"""The view that bloats: a statement of account that keeps everything it ever read.

It looks harmless, passed its review, and is fast on the second page view: the rows of a
customer's whole segment are read once, turned into dicts, and remembered for the next page.
Nobody removes them, so each customer looked at adds some megabytes to the worker, for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.shortcuts import get_object_or_404, render

from .models import Customer, OrderLine

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

_rows_by_customer: dict[int, list[dict[str, Any]]] = {}


def statement(request: HttpRequest, customer_id: int) -> HttpResponse:
    """A customer's lines beside those of the whole segment, page by page."""
    customer = get_object_or_404(Customer, pk=customer_id)
    if customer_id not in _rows_by_customer:
        _rows_by_customer[customer_id] = comparison_rows(customer)
    page = Paginator(_rows_by_customer[customer_id], 50).get_page(request.GET.get("page"))
    return render(request, "shop/statement.html", {"customer": customer, "page": page})


def comparison_rows(customer: Customer) -> list[dict[str, Any]]:
    """Every order line of the customer's segment, ready for the template."""
    lines = OrderLine.objects.filter(order__customer__segment=customer.segment)
    rows: list[dict[str, Any]] = []
    for line in lines.select_related("order__customer", "product"):
        rows.append({
            "order": line.order_id,
            "placed": line.order.placed,
            "status": line.order.status,
            "own": line.order.customer_id == customer.pk,
            "customer": line.order.customer.name,
            "city": line.order.customer.city,
            "sku": line.product.sku,
            "product": line.product.name,
            "quantity": line.quantity,
            "unit_price": line.unit_price,
            "total": line.total(),
            "list_price": line.product.price,
        })  # fmt: skip
    return rows
