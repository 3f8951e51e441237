"""A Django application of one page: a list of orders. Also its URLs. Needs configured settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection, models
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path

if TYPE_CHECKING:
    from django.http import HttpRequest


class Order(models.Model):
    """A line of the list."""

    customer = models.CharField(max_length=40)
    item = models.CharField(max_length=40)
    price = models.FloatField()

    class Meta:
        app_label = "apps"


PAGE = Template(
    "<html><table>{% for order in orders %}<tr><td>{{ order.id }}</td><td>{{ order.customer }}</td>"
    "<td>{{ order.item|title }}</td><td>{{ order.price|floatformat:2 }}</td></tr>{% endfor %}"
    "</table></html>"
)


def orders(request: HttpRequest) -> HttpResponse:
    """The page."""
    found = Order.objects.filter(price__gt=10).order_by("-price")[:40]
    return HttpResponse(PAGE.render(Context({"orders": found})))


urlpatterns = [path("orders/", orders)]
_kept: list[object] = []


def fill() -> None:
    """Make the table, in memory; it lives as long as one connection does: this thread's."""
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    Order.objects.bulk_create(
        Order(customer=f"customer {n % 17}", item=f"item {n}", price=n * 1.5) for n in range(200)
    )
    _kept.append(connection.connection)
