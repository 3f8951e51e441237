"""Five ways in which a request comes to use too much memory, each as it happens in real projects.

In each view the guilty work is a function of its own, so that tests can run it alone and compare.
The fifth is in admin.py: a list page whose filter offers every customer, and an add page whose select
offers every order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import JsonResponse

from .models import Order, OrderLine, Product, WholeOrder

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from django.http import HttpRequest

PERMISSIONS = 3000
REPEATS = 250


def session_bloat(request: HttpRequest) -> JsonResponse:
    """Keeps in the session what belongs into a cache: every request reads and writes all of it."""
    return JsonResponse({"permissions": remember_permissions(request.session)})


def remember_permissions(session: MutableMapping[str, Any]) -> int:
    """Bring the session's copy up to date: it is decoded whole, and encoded whole afterwards."""
    session["permissions_cache"] = {
        f"shop.product.{number}.{action}": number % 3 == 0
        for number in range(PERMISSIONS // 3)
        for action in ("view", "change", "delete")
    }
    session["navigation"] = [f"entry {number}" for number in range(50)]
    return len(session["permissions_cache"])


def scope_explosion(request: HttpRequest) -> JsonResponse:
    """Asks for a list of numbers, through a manager that loads each order whole."""
    return JsonResponse({"orders": len(order_numbers())})


def order_numbers() -> list[int]:
    """Numbers of the newest orders; `WholeOrder.objects` adds lines, products and customers."""
    return [order.pk for order in WholeOrder.objects.order_by("-pk")[:300]]


def repeated_queries(request: HttpRequest) -> JsonResponse:
    """Looks at the customer of each order, without having asked for them."""
    return JsonResponse({"customers": len(names_of_customers())})


def names_of_customers() -> set[str]:
    """One query for the orders, and one for each of their customers."""
    return {order.customer.name for order in Order.objects.order_by("pk")[:REPEATS]}


def large_result(request: HttpRequest) -> JsonResponse:
    """Reads a whole table to count what is in it."""
    return JsonResponse({"pieces": pieces_sold()})


def pieces_sold() -> int:
    """The sum of a column, with an object for each row."""
    lines = list(OrderLine.objects.all())
    return sum(line.quantity for line in lines)


def innocent(request: HttpRequest) -> JsonResponse:
    """What all the other requests do: a page of products."""
    return JsonResponse({"products": list(Product.objects.values_list("name", flat=True)[:20])})
