"""Makes the shop's database: `python -m fastalloc.demo.shop.populate` (see SHOP_DATABASE)."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

CUSTOMERS, PRODUCTS, ORDERS, LINES_PER_ORDER = 400, 200, 3000, 4
CITIES = ("Graz", "Lyon", "Porto", "Turku", "Ghent", "Brno", "Split", "Cork")
NOUNS = ("lamp", "chair", "kettle", "shelf", "clock", "vase", "desk", "rug", "stool", "mirror")
ADJECTIVES = ("oak", "brass", "linen", "blue", "folding", "tall", "round", "enamel")


def populate() -> None:
    """Create the tables, some thousands of rows, and the user "admin" (SHOP_ADMIN_PASSWORD)."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fastalloc.demo.project.settings")
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    get_user_model().objects.create_superuser(
        "admin", "admin@example.invalid", os.environ["SHOP_ADMIN_PASSWORD"]
    )
    _fill(random.Random(20))


def _fill(rng: random.Random) -> None:
    from django.db import transaction

    from .models import Customer, Order, OrderLine, Product

    newest = datetime(2025, 6, 30, 18, 0, tzinfo=UTC)
    with transaction.atomic():
        customers = Customer.objects.bulk_create(
            Customer(
                name=f"Customer {number:04} & Sons",
                city=rng.choice(CITIES),
                segment=Customer.SEGMENTS[number % len(Customer.SEGMENTS)],
            )
            for number in range(CUSTOMERS)
        )
        products = Product.objects.bulk_create(
            Product(
                sku=f"SKU-{number:05}",
                name=f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}, model {number}",
                price=Decimal(rng.randrange(200, 50_000)) / 100,
            )
            for number in range(PRODUCTS)
        )
        orders = Order.objects.bulk_create(
            Order(
                customer=rng.choice(customers),
                placed=newest - timedelta(minutes=37 * number),
                status=rng.choice(("paid", "sent", "open")),
            )
            for number in range(ORDERS)
        )
        lines = []
        for order in orders:
            for product in rng.sample(products, LINES_PER_ORDER):
                quantity = rng.randrange(1, 9)
                lines.append(
                    OrderLine(
                        order=order, product=product, quantity=quantity, unit_price=product.price
                    )
                )
        OrderLine.objects.bulk_create(lines, batch_size=500)


if __name__ == "__main__":
    populate()
