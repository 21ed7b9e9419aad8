"""Writing the run history quickly: a run has hundreds of events, and Dagster opens its files anew for each.

To open a SQLite file, plan each statement, wait for the disk twice and put the write-ahead log away again takes longer
than to write an event; all of it happens once per file here. So does looking up which tables, columns and indexes the
history has, which Dagster does up to five times an event. Dagster has no public way to say so: tests/test_history.py
fails should another version of it no longer look here.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from sqlite3 import Connection as FileConnection
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import QueuePool

BUSY_SECONDS = 30  # as Dagster waits for another process that writes
SCHEMA_QUESTIONS = ("has_table", "has_secondary_index", "has_asset_key_col", "_has_asset_key_col_on_connection")


@contextmanager
def kept_open(instance: dg.DagsterInstance) -> Generator[None]:
    """While this lasts, keep the files of the instance's event log open; nothing happens where it is not in SQLite.

    Other processes read and write them meanwhile. Should the power fail, the last events may be missing from the
    history, which stays readable.
    """
    log = instance.event_log_storage
    if not isinstance(log, SqliteEventLogStorage):
        yield
        return
    opened: dict[str, Connection] = {}

    @contextmanager
    def connect(shard: str) -> Generator[Connection]:
        with log._db_lock:
            if shard not in opened:
                opened[shard] = _opened(log, shard)
            with opened[shard].begin():
                yield opened[shard]
        os.utime(log.path_for_shard(shard))  # the UI watches this file, and the write went to the one beside it

    known = {name: _once_true(getattr(log, name)) for name in SCHEMA_QUESTIONS}
    vars(log).update(known, _connect=connect)
    try:
        yield
    finally:
        for name in (*known, "_connect"):
            delattr(log, name)  # the class's own again
        for connection in opened.values():
            connection.close()
            connection.engine.dispose()


def _once_true(ask: Callable[..., bool]) -> Callable[..., bool]:
    """Ask only until the answer is yes: what a history has it keeps. The question is the last argument, a name."""
    true: set[str] = set()

    def answer(*arguments: Any) -> bool:
        name: str = arguments[-1]
        if name not in true and ask(*arguments):
            true.add(name)
        return name in true

    return answer


def _opened(log: SqliteEventLogStorage, shard: str) -> Connection:
    """As `SqliteEventLogStorage._connect` opens a file, for whatever thread holds its lock."""
    engine = create_engine(
        log.conn_string_for_shard(shard), poolclass=QueuePool, connect_args={"timeout": BUSY_SECONDS}
    )
    event.listen(engine, "connect", _without_waiting_for_the_disk)
    if shard not in log._initialized_dbs:
        log._initdb(engine)
        log._initialized_dbs.add(shard)
    return engine.connect()


def _without_waiting_for_the_disk(connection: FileConnection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
