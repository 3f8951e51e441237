"""The demo's one Django app: customers, products, orders, and reports on them."""
