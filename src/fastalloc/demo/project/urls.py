"""The demo's routes. A span is named after the route, so these texts are what the report shows."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from fastalloc.demo.shop import reports, scenarios, views

urlpatterns = [
    path("", views.home, name="home"),
    path("orders/", views.order_list, name="orders"),
    path("orders/<int:order_id>/", views.order_detail, name="order"),
    path("customers/<int:customer_id>/", views.customer_detail, name="customer"),
    path("api/products.json", views.products_json, name="products-json"),
    path("export/orders.csv", views.orders_csv, name="orders-csv"),
    path("reports/statements/<int:customer_id>/", reports.statement, name="statement"),
    path("scenarios/session/", scenarios.session_bloat),
    path("scenarios/scope/", scenarios.scope_explosion),
    path("scenarios/repeats/", scenarios.repeated_queries),
    path("scenarios/large/", scenarios.large_result),
    path("scenarios/innocent/", scenarios.innocent),
    path("admin/", admin.site.urls),
]
