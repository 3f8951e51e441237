"""A Flask app with each kind of response."""

from __future__ import annotations

import os

from flask import Blueprint, Flask, render_template_string, request

import fastalloc

app = Flask(__name__)
shop = Blueprint("shop", __name__, url_prefix="/shop/<region>")


@app.get("/plain/<int:number>")
def plain(number: int) -> str:
    return "x" * number


@app.get("/template/<name>")
def template(name: str) -> str:
    return render_template_string("hello {{ name }}", name=name)


@app.get("/stream")
def stream():
    return (str(n) for n in range(5)), {"Content-Type": "text/plain"}


@app.get("/fails")
def fails():
    raise LookupError("theirs")


@app.post("/echo")
def echo():
    return request.get_data()


@app.get("/checked")
async def checked():
    fastalloc.checkpoint("halfway")
    return "checked"


@shop.get("/orders/<order>")
def order(region: str, order: str) -> str:
    return "ordered"


app.register_blueprint(shop)

if os.environ.get("WITH_FASTALLOC"):
    from fastalloc.integrations.flask import Fastalloc

    app.config.from_prefixed_env()
    Fastalloc(app)


def raw(environ, start_response):
    """A WSGI application that fails beyond its framework's care."""
    kind = environ["PATH_INFO"]
    if kind == "/call":
        raise LookupError("theirs")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if kind == "/twice":
        start_response("500 Oh", [])
    return failing() if kind == "/stream" else [b"fine"]


def failing():
    yield b"one"
    raise LookupError("theirs")


if os.environ.get("WITH_FASTALLOC"):
    from fastalloc.integrations.wsgi import WSGIMiddleware

    raw = WSGIMiddleware(raw)
