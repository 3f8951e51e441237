"""Queries by SQLAlchemy, each alone and as a request: printed for test_sqlalchemy.py."""

from __future__ import annotations

import functools
import sys
import traceback

from sqlalchemy import ForeignKey, create_engine, event, func, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    with_loader_criteria,
)
from sqlalchemy.pool import StaticPool

import fastalloc
from tests.trackers.looking import answer, bytes_of, look, start

AUTHORS, BOOKS = 40, 1200


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str]
    pages: Mapped[int] = mapped_column(default=100)
    is_printed: Mapped[bool] = mapped_column(default=True)
    author: Mapped[Author] = relationship(back_populates="books")


engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


def fill() -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        authors = [Author(name=f"author {n}") for n in range(AUTHORS)]
        session.add_all(authors)
        session.add_all(
            Book(author=authors[n % AUTHORS], title=f"title {n}", is_printed=n % 2 == 0)
            for n in range(BOOKS)
        )
        session.commit()


def large():
    with Session(engine) as session:
        return session.scalars(select(Book)).all()


def repeated():
    with Session(engine) as session:
        for author in session.scalars(select(Author)).all():
            _ = author.books


def repeated_by_key():
    for number in range(1, 31):
        with Session(engine) as session:
            session.get(Book, number)


def joined():
    with Session(engine) as session:
        return session.scalars(select(Author).options(joinedload(Author.books))).unique().all()


def selected_in():
    with Session(engine) as session:
        return session.scalars(select(Author).options(selectinload(Author.books))).all()


def tuples():
    with Session(engine) as session:
        return session.execute(select(Book.id, Book.title)).all()


def iterated():
    with Session(engine) as session:
        for _ in session.scalars(select(Book)):
            pass


def streamed():
    with Session(engine) as session:
        rows = iter(session.scalars(select(Book).execution_options(yield_per=100)))
        next(rows)
        streamed.loaded = len(session.identity_map)
        for _ in rows:
            pass


def core():
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT * FROM book WHERE title <> 'hunter2' AND pages > :pages"), {"pages": 1}
        ).all()


def core_by_dicts():
    with engine.connect() as connection:
        return connection.execute(select(Book.__table__)).mappings().all()


def core_iterated():
    with engine.connect() as connection:
        for _ in connection.execute(select(Book.__table__)):
            pass


def core_by_scalars():
    with engine.connect() as connection:
        for _ in connection.execute(
            text("WITH b AS (SELECT * FROM book) SELECT * FROM b")
        ).scalars():
            pass


def core_iterated_by_dicts():
    with engine.connect() as connection:
        for _ in connection.execute(select(Book.__table__)).mappings():
            pass


def core_by_partitions():
    with engine.connect() as connection:
        for _ in connection.execute(select(Book.__table__)).partitions(100):
            pass


def core_streamed():
    with engine.connect() as connection:
        connection = connection.execution_options(stream_results=True, max_row_buffer=200)
        for _ in connection.execute(select(Book.__table__)):
            pass


def core_by_rows():
    with engine.connect() as connection:
        result = connection.execute(select(Book.__table__))
        while result.fetchone():
            pass


def core_in_part():
    with engine.connect() as connection:
        result = connection.execute(select(Book.__table__))
        for _ in range(100):
            next(result)


def returned():
    copy = "INSERT INTO book (author_id, title, pages, is_printed) SELECT author_id, title, 1, 1 "
    with engine.begin() as connection:
        for _ in connection.execute(text(f"{copy} FROM book RETURNING id, title")):
            pass
        connection.execute(text("DELETE FROM book WHERE pages = 1"))


def columns_iterated():
    with Session(engine) as session:
        for _ in session.execute(select(Book.id, Book.title)):
            pass


def columns_streamed():
    with Session(engine) as session:
        wanted = select(Book.id, Book.title).execution_options(yield_per=100)
        for _ in session.execute(wanted).partitions():
            pass


def legacy_iterated():
    with Session(engine) as session:
        for _ in session.query(Book):
            pass


def counted():
    with Session(engine) as session:
        for _ in range(20):
            session.scalar(select(func.count()).select_from(Book))


def written():
    with Session(engine) as session:
        authors = [Author(name=f"new {n}") for n in range(20)]
        session.add_all(authors)
        session.flush()
        authors[0].name = "newer"
        session.flush()
        for author in authors:
            session.delete(author)
        session.commit()


def under_criteria():
    with Session(engine) as session:
        event.listen(session, "do_orm_execute", only_printed)
        return session.scalars(select(Book)).all()


def only_printed(state):
    if state.is_select:
        state.statement = state.statement.options(criteria())


def criteria():
    return with_loader_criteria(Book, lambda kind: kind.is_printed.is_(True))


def by_a_late_dialect():
    with late_engine().connect() as connection:
        return connection.exec_driver_sql("SELECT * FROM book").all()


@functools.cache
def late_engine():
    """Of a dialect that is defined after the trackers have come, executes in its own way, and then as others do."""

    class Late(SQLiteDialect_pysqlite):
        supports_statement_cache = True

        def do_execute(self, cursor, statement, parameters, context=None):
            super().do_execute(cursor, statement, parameters, context)

    registry.impls["late"] = lambda: Late
    made = create_engine("late://", creator=lambda: engine.raw_connection().driver_connection)
    with made.connect():
        pass
    return made


def executed_by_the_program():
    """By a listener, which says that it has done so."""
    event.listen(engine, "do_execute", itself)
    try:
        with Session(engine) as session:
            return session.scalars(select(Book)).all()
    finally:
        event.remove(engine, "do_execute", itself)


def itself(cursor, statement, parameters, context):
    cursor.execute(statement, parameters)
    return True


class Named(SQLiteDialect_pysqlite):
    """Calls its arguments otherwise, and has one more."""

    supports_statement_cache = True

    def do_execute(self, cur, stmt, params, ctx=None, *, tag=None):
        cur.execute(stmt, params)


class Tagged(Named):
    def do_execute(self, cursor, statement, parameters, context=None):
        super().do_execute(cur=cursor, stmt=statement, params=parameters, ctx=context, tag=1)


class Static(SQLiteDialect_pysqlite):
    supports_statement_cache = True

    @staticmethod
    def do_execute(cursor, statement, parameters, context=None):
        cursor.execute(statement, parameters)


class Mixin:
    def do_execute(self, cursor, statement, parameters, context=None):
        cursor.execute(statement, parameters)


class Mixed(Mixin, SQLiteDialect_pysqlite):
    supports_statement_cache = True


class Slotted:
    __slots__ = ()


def odd_dialects():
    odd_dialects.rows = []
    for kind in (Named, Tagged, Static, Mixed):
        registry.impls["odd"] = lambda kind=kind: kind
        made = create_engine("odd://", creator=lambda: engine.raw_connection().driver_connection)
        with made.connect() as connection:
            found = connection.exec_driver_sql(f"SELECT '{kind.__name__}', ?", (1,)).all()
            odd_dialects.rows += [tuple(row) for row in found]
        made.dialect.do_execute(connection_of(made).cursor(), "SELECT 2", (), Slotted())
        made.dialect.do_execute(connection_of(made).cursor(), "SELECT 2", ())


def connection_of(made):
    return made.raw_connection().driver_connection


def without_parameters():
    with engine.connect().execution_options(no_parameters=True) as connection:
        return connection.exec_driver_sql("SELECT * FROM book WHERE title LIKE 't%'").all()


def fails():
    fails.files = []
    with Session(engine) as session:
        for statement in (text("SELECT no_such FROM book"), select(func.no_such(Book.id))):
            try:
                session.execute(statement).all()
            except OperationalError as error:
                for one in (error, error.__cause__, error.__context__):
                    fails.files += [f.filename for f in traceback.extract_tb(one.__traceback__)]


def main(folder: str) -> None:
    fill()
    start(folder)
    cases = {}
    for work in (
        *(large, repeated, repeated_by_key, joined, selected_in, tuples, iterated, streamed),
        *(core, core_by_dicts, counted, written, under_criteria, fails),
        *(core_iterated, core_by_scalars, core_iterated_by_dicts, core_by_partitions),
        *(core_streamed, core_by_rows, core_in_part, returned, columns_iterated),
        *(columns_streamed, legacy_iterated, by_a_late_dialect, without_parameters),
        *(executed_by_the_program, odd_dialects),
    ):
        cases[work.__name__] = look(f"GET /{work.__name__}/", work)
    cases["odd_dialects"]["results"] = odd_dialects.rows
    cases["fails"]["files"] = fails.files
    cases["streamed"]["loaded"] = streamed.loaded
    cases["under_criteria"]["criteria_alone"] = bytes_of(criteria)
    answer(**cases, dump=fastalloc.write_dump(), recording=fastalloc.status().recording)


if __name__ == "__main__":
    main(*sys.argv[1:])
