"""A FastAPI app on SQLAlchemy with guilty pages, of Session and of AsyncSession, and innocent ones: run by
test_scenarios.py.

The guilty work of each page is a function of its own, so that it can be run alone and compared.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    with_loader_criteria,
)

import fastalloc  # noqa: F401  with FASTALLOC_MODE set, recording starts here
from fastalloc.integrations.starlette import Middleware

AUTHORS, BOOKS = 300, 6000
CONNECTIONS = 50


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    is_hidden: Mapped[bool] = mapped_column(default=False)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), index=True)
    title: Mapped[str]
    is_hidden: Mapped[bool] = mapped_column(default=False)
    author: Mapped[Author] = relationship(back_populates="books")


engine = create_engine(f"sqlite:///{os.environ['BOOKS_DATABASE']}", pool_size=CONNECTIONS)
async_engine = create_async_engine(
    f"sqlite+aiosqlite:///{os.environ['BOOKS_DATABASE']}", pool_size=CONNECTIONS
)


class Shop(Session):
    """A session whose every query loads whole authors and only what is not hidden."""


@event.listens_for(Shop, "do_orm_execute")
def _whole_and_not_hidden(state) -> None:
    if state.is_select and not state.is_relationship_load and not state.is_column_load:
        state.statement = state.statement.options(
            with_loader_criteria(Author, Author.is_hidden.is_(False)),
            selectinload(Author.books),
        )


def fill() -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        authors = [Author(name=f"author {n}") for n in range(AUTHORS)]
        session.add_all(authors)
        session.add_all(Book(author=authors[n % AUTHORS], title=f"title {n}") for n in range(BOOKS))
        session.commit()


def names_of_authors() -> set[str]:
    """One query for the books, and one for each of their authors."""
    with Session(engine) as session:
        books = session.scalars(select(Book).limit(150)).all()
        return {book.author.name for book in books}


def numbers_of_authors() -> list[int]:
    """Asks for authors, through a session that loads their books too."""
    with Shop(engine) as session:
        return [author.id for author in session.scalars(select(Author).limit(100))]


def all_books() -> list[Book]:
    """A whole table, of which the page needs only the count."""
    with Session(engine) as session:
        return list(session.scalars(select(Book)).all())


async def names_of_authors_async() -> set[str]:
    """Likewise: where nothing is loaded lazily, one asks for each by hand."""
    async with AsyncSession(async_engine) as session:
        books = (await session.scalars(select(Book).limit(150))).all()
        wanted = [select(Author).where(Author.id == book.author_id) for book in books]
        return {(await session.scalars(one)).one().name for one in wanted}


async def all_books_async() -> int:
    """A whole table, row by row."""
    count = 0
    async with AsyncSession(async_engine) as session:
        async for _ in await session.stream_scalars(select(Book).execution_options(yield_per=500)):
            count += 1
    return count


def first_titles() -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Book.title).limit(10)))


def first_of_all() -> None:
    """CPython lays out the instances of a class by the first ones that it sees, and SQLAlchemy fills them in
    an order that depends on the query: the same query allocates 20 % more or less in processes whose
    first queries differed. So all processes begin with the same ones, and with all their connections,
    which the requests would else make that come first."""
    for connection in [engine.connect() for _ in range(CONNECTIONS)]:
        connection.close()
    all_books()
    names_of_authors()
    numbers_of_authors()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    first_of_all()
    yield
    await async_engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/shops/{shop}/repeats")
def repeats(shop: int) -> int:
    return len(names_of_authors())


@app.get("/shops/{shop}/scope")
def scope(shop: int) -> int:
    return len(numbers_of_authors())


@app.get("/shops/{shop}/large")
async def large(shop: int) -> int:  # on the event loop itself, as it should not be
    return len(all_books())


@app.get("/async/shops/{shop}/repeats")
async def async_repeats(shop: int) -> int:
    return len(await names_of_authors_async())


@app.get("/async/shops/{shop}/large")
async def async_large(shop: int) -> int:
    return await all_books_async()


@app.get("/innocent/")
def innocent() -> list[str]:
    return first_titles()


@app.get("/innocent/{number}")
async def innocent_on_the_loop(number: int) -> list[str]:
    return first_titles()


application = Middleware(app)
