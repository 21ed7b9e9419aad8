"""Writing the run history quickly: a run has hundreds of events, and Dagster opens its files anew for each.

To open a SQLite file, plan each statement, wait for the disk twice and put the write-ahead log away again takes longer
than to write an event; all of it happens once per file here. Dagster has no public way to say so: tests/test_history.py
fails should another version of it no longer look here.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from sqlite3 import Connection as FileConnection

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

BUSY_SECONDS = 30  # as Dagster waits for another process that writes


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
    engines: dict[str, Engine] = {}

    @contextmanager
    def connect(shard: str) -> Generator[Connection]:
        with log._db_lock:
            if shard not in engines:
                engines[shard] = _engine(log, shard)
            with engines[shard].begin() as connection:
                yield connection
        os.utime(log.path_for_shard(shard))  # the UI watches this file, and the write went to the one beside it

    log._connect = connect
    try:
        yield
    finally:
        del log._connect  # the class's own again
        for engine in engines.values():
            engine.dispose()


def _engine(log: SqliteEventLogStorage, shard: str) -> Engine:
    """As `SqliteEventLogStorage._connect` makes one, with a pool."""
    engine = create_engine(
        log.conn_string_for_shard(shard), poolclass=QueuePool, connect_args={"timeout": BUSY_SECONDS}
    )
    event.listen(engine, "connect", _without_waiting_for_the_disk)
    if shard not in log._initialized_dbs:
        log._initdb(engine)
        log._initialized_dbs.add(shard)
    return engine


def _without_waiting_for_the_disk(connection: FileConnection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
