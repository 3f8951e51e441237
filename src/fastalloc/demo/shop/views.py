"""The shop's innocent views: a list page, details, JSON, and a streamed CSV."""

from __future__ import annotations

import csv
from decimal import Decimal
from typing import TYPE_CHECKING

from django.core.paginator import Paginator
from django.db.models import Count, DecimalField, F, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render

from .models import Customer, Order, OrderLine, Product

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNOVER = Sum(F("lines__quantity") * F("lines__unit_price"), output_field=DecimalField())


def home(request: HttpRequest) -> HttpResponse:
    """The front page: best sellers and the newest orders."""
    best = Product.objects.annotate(sold=Sum("orderline__quantity")).order_by("-sold")[:10]
    newest = Order.objects.select_related("customer")[:10]
    return render(request, "shop/home.html", {"best": best, "newest": newest})


def order_list(request: HttpRequest) -> HttpResponse:
    """A page of orders with their totals."""
    orders = (
        Order.objects.order_by("-placed")
        .select_related("customer")
        .annotate(line_count=Count("lines"), turnover=TURNOVER)
    )
    page = Paginator(orders, 40).get_page(request.GET.get("page"))
    return render(request, "shop/orders.html", {"page": page})


def order_detail(request: HttpRequest, order_id: int) -> HttpResponse:
    """One order with its lines."""
    order = get_object_or_404(Order.objects.select_related("customer"), pk=order_id)
    lines = list(order.lines.select_related("product"))
    total = sum((line.total() for line in lines), Decimal())
    return render(request, "shop/order.html", {"order": order, "lines": lines, "total": total})


def customer_detail(request: HttpRequest, customer_id: int) -> HttpResponse:
    """One customer with the last orders."""
    customer = get_object_or_404(Customer, pk=customer_id)
    orders = customer.orders.annotate(turnover=TURNOVER)[:20]
    return render(request, "shop/customer.html", {"customer": customer, "orders": orders})


def products_json(request: HttpRequest) -> JsonResponse:
    """The price list."""
    products = list(Product.objects.values("sku", "name", "price"))
    return JsonResponse({"products": products})


class _Echo:
    """A file whose write() hands the text back: how csv rows are streamed."""

    def write(self, value: str) -> str:
        return value


def orders_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The newest order lines as CSV, streamed row by row: the right way to export."""

    def rows() -> Iterator[str]:
        writer = csv.writer(_Echo())
        lines = OrderLine.objects.select_related("order", "product").order_by("-order_id")
        for line in lines[:500].iterator():
            yield writer.writerow((line.order_id, line.product.sku, line.quantity, line.total()))

    response = StreamingHttpResponse(rows(), content_type="text/csv")
    response["Content-Disposition"] = 'attachment; filename="orders.csv"'
    return response
