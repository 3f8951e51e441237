"""A FastAPI application of one route: a list of orders, checked by models on the way out."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel


class Line(BaseModel):
    """An item of an order."""

    item: str
    price: float


class Order(BaseModel):
    """An order."""

    id: int
    customer: str
    lines: list[Line]


app = FastAPI()


@app.get("/orders/")
async def orders(limit: int = 40) -> list[Order]:
    """The first `limit` orders."""
    return [
        Order(
            id=number,
            customer=f"customer {number % 17}",
            lines=[Line(item=f"item {n}", price=n * 1.5) for n in range(3)],
        )
        for number in range(limit)
    ]
