"""`uvicorn benchmarks.apps.fastapi_service:application`: fastapi_shop, and a page whose orders come from a database.

With FASTALLOC_MODE set, fastalloc's middleware is around it; without, nothing is.
"""

from __future__ import annotations

import os

from benchmarks import lot  # noqa: F401  before all else: where things lie is drawn by lot
from benchmarks.apps import hooks  # noqa: F401  of no profiler, where the variant says so

# isort: split
import fastalloc  # first: with FASTALLOC_MODE set, recording starts here

# isort: split
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from benchmarks.apps.fastapi_shop import Line, Order, app
from fastalloc.integrations.starlette import Middleware


class Base(DeclarativeBase):
    """Of the tables."""


class Stored(Base):
    """An order."""

    __tablename__ = "stored"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    price: Mapped[float]


engine = create_engine("sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool)
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(
        Stored(customer=f"customer {n % 17}", item=f"item {n}", price=n * 1.5) for n in range(200)
    )
    session.commit()


@app.get("/stored/")
async def stored(limit: int = 40) -> list[Order]:
    """The first `limit` orders of the database; in the event loop, so that one connection is enough."""
    with Session(engine) as session:
        return [
            Order(id=o.id, customer=o.customer, lines=[Line(item=o.item, price=o.price)])
            for o in session.scalars(select(Stored).limit(limit))
        ]


application = Middleware(app) if os.environ.get("FASTALLOC_MODE") else app
assert fastalloc.status().active == bool(os.environ.get("FASTALLOC_MODE"))
