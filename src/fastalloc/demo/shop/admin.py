"""The shop's admin: list pages with filters and a search, as every project has them."""

from __future__ import annotations

from django.contrib import admin

from .models import Customer, Order, OrderLine, Product


class OrderLineInline(admin.TabularInline):  # type: ignore[misc]
    model = OrderLine
    extra = 0
    raw_id_fields = ("product",)


@admin.register(Customer)
class CustomerAdmin(admin.ModelAdmin):  # type: ignore[misc]
    list_display = ("name", "city", "segment")
    list_filter = ("segment",)
    search_fields = ("name",)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[misc]
    list_display = ("sku", "name", "price")
    search_fields = ("name", "sku")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[misc]
    list_display = ("id", "customer", "placed", "status")
    list_filter = ("status",)
    list_select_related = ("customer",)
    raw_id_fields = ("customer",)
    inlines = (OrderLineInline,)


@admin.register(OrderLine)
class OrderLineAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """As one writes it first: a filter by every customer, and selects of every order and product."""

    list_display = ("order", "product", "quantity", "total")
    list_filter = ("order__customer",)
    list_select_related = ("order", "product")
