"""A Celery app over a broker made of files: no service is needed."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

import fastalloc.integrations.celery  # noqa: F401
from tests.integrations.apps.blocks import churn

folder = Path(os.environ["CELERY_FOLDER"])
for name in ("in", "control", "results"):
    (folder / name).mkdir(exist_ok=True)

app = Celery("shop")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": str(folder / "in"),
        "data_folder_out": str(folder / "in"),
        "control_folder": str(folder / "control"),
    },
    result_backend=f"file://{folder / 'results'}",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="shop.import_orders")
def import_orders(count: int) -> int:
    churn(count * 1_000_000)
    return count


@app.task(name="shop.fails")
def fails() -> None:
    churn(2_000_000)
    raise LookupError("s3cret")


@app.task(name="shop.tries_again", bind=True, max_retries=1, default_retry_delay=0)
def tries_again(self) -> str:
    if not self.request.retries:
        raise self.retry(exc=OSError("s3cret"))
    return "done"


@app.task(name="shop.calls_another")
def calls_another() -> int:
    churn(4_000_000)
    return import_orders.apply(args=[8]).get(disable_sync_subtasks=False)
