"""What the shop knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models


class Customer(models.Model):  # type: ignore[misc]
    SEGMENTS = ("retail", "trade", "public", "export")

    name: Any = models.CharField(max_length=80)
    city: Any = models.CharField(max_length=60)
    segment: Any = models.CharField(max_length=10, db_index=True)

    def __str__(self) -> str:
        return str(self.name)


class Product(models.Model):  # type: ignore[misc]
    sku: Any = models.CharField(max_length=16, unique=True)
    name: Any = models.CharField(max_length=80)
    price: Any = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"


class Order(models.Model):  # type: ignore[misc]
    customer: Any = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="orders")
    placed: Any = models.DateTimeField(db_index=True)
    status: Any = models.CharField(max_length=10)

    class Meta:
        ordering = ("-placed",)

    def __str__(self) -> str:
        return f"order {self.pk}"


class OrderLine(models.Model):  # type: ignore[misc]
    order: Any = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product: Any = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity: Any = models.PositiveIntegerField()
    unit_price: Any = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product_id}"

    def total(self) -> Decimal:
        return Decimal(self.quantity * self.unit_price)


class Whole(models.Manager):  # type: ignore[misc]
    """Loads with every order what some page once needed."""

    def get_queryset(self) -> Any:
        orders = super().get_queryset().select_related("customer")
        return orders.prefetch_related("lines__product")


class WholeOrder(Order):
    """An order with all that belongs to it, whether asked for or not."""

    objects = Whole()

    class Meta:
        proxy = True
