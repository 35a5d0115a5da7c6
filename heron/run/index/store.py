"""The SQLite file behind an index: one writer at a time, readers beside it, and everything in it can be made again.

The one hard idea: the file may be shared. Two pages may look at one run, so what was read so far stands in the file and is looked up
inside the transaction that goes on from there; whoever finds another one writing leaves the work to it.

Left out: repair. A file that is spoilt, or of another version, is removed and made anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heron.errors import RunError

VERSION = 1
"""Of the tables below; a file of another version is made anew."""

TABLES = {
    "state": "CREATE TABLE state (key TEXT PRIMARY KEY, value)",
    "names": "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT UNIQUE)",
    "chunks": "CREATE TABLE chunks (id INTEGER PRIMARY KEY, last INTEGER, steps BLOB)",
    "columns": "CREATE TABLE columns (name INTEGER, chunk INTEGER, data BLOB, peaks BLOB, PRIMARY KEY (name, chunk))",
    "files": "CREATE TABLE files (step INTEGER PRIMARY KEY, size INTEGER, modified INTEGER, lengths BLOB)",
    "prompts": "CREATE TABLE prompts (id INTEGER PRIMARY KEY, key BLOB UNIQUE, prompt TEXT, question TEXT, answer TEXT)",
    "groups": "CREATE TABLE groups (id INTEGER PRIMARY KEY, prompt INTEGER, marks INTEGER, reward REAL, "
              "start INTEGER, size INTEGER, siblings TEXT)",
}  # fmt: skip
"""`columns` holds a figure's values at the steps of a chunk; `files` a step's lengths; `groups` a group's small records."""
SEARCH = "CREATE VIRTUAL TABLE search USING fts5(marks, body, content='', columnsize=0, detail=column)"
"""Words only: the texts themselves stay in the run."""


class Store:
    """The file at `path`. Ask for `rows` from any thread, be `writing` in one."""

    def __init__(self, path: Path, *, has_search: bool | None = None) -> None:
        self.path = path
        self.has_search = _has_fts5() if has_search is None else has_search
        self._reading = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer, self._reader = self._open()
        except (OSError, sqlite3.OperationalError) as error:
            raise self._unwritable(error) from error

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows that answer."""
        with self._reading:
            return self._reader.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Rows that are asked for inside are of one moment, whatever is written meanwhile."""
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                yield
            finally:
                self._reader.execute("COMMIT")

    def state(self, key: str, default: Any = None) -> Any:
        """What was noted under the key; as it was committed."""
        rows = self.rows("SELECT value FROM state WHERE key = ?", key)
        return rows[0][0] if rows else default

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing | None]:
        """One transaction; None while another process is in one. What is written is kept if the block ends without an error."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise self._unwritable(error) from error
            yield None
            return
        try:
            yield Writing(self._writer, self.has_search)
            self._writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise self._unwritable(error) from error
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file."""
        with self._reading:
            self._reader.close()
            self._writer.close()

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            return self._connect(), self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # not a database, or one that was spoilt
            self._remove()
            return self._connect(), self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            self._prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Settings, and tables if it has none of this version."""
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -16000"):
            connection.execute(f"PRAGMA {setting}")
        version = VERSION * 2 + self.has_search
        if connection.execute("PRAGMA user_version").fetchone()[0] != version:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone()[0] != version:  # nobody else has been quicker
                Writing(connection, self.has_search).start_over()
                connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        connection.execute("PRAGMA busy_timeout = 0")

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def _unwritable(self, error: Exception) -> RunError:
        return RunError(
            f"The index {self.path} cannot be written ({error}). Make room there, or name another cache folder with XDG_CACHE_HOME."
        )


class Writing:
    """An open transaction."""

    def __init__(self, connection: sqlite3.Connection, has_search: bool) -> None:
        self._connection = connection
        self.has_search = has_search

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows that answer; also for one change."""
        return self._connection.execute(sql, values).fetchall()

    def many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """One change for each row."""
        self._connection.executemany(sql, rows)

    def state(self, key: str, default: Any = None) -> Any:
        """What was noted under the key."""
        rows = self.rows("SELECT value FROM state WHERE key = ?", key)
        return rows[0][0] if rows else default

    def note(self, key: str, value: Any) -> None:
        """To be found under the key from now on. What is noted already costs no write."""
        if self.state(key) != value:
            self.rows("INSERT OR REPLACE INTO state VALUES (?, ?)", key, value)

    def start_over(self) -> None:
        """Empty tables; the generation is one that was never there, even if the whole file was removed in between."""
        has_state = self.rows("SELECT 1 FROM sqlite_master WHERE name = 'state'")
        before = self.state("generation", 0) if has_state else 0
        for table in (*TABLES, "search"):
            self.rows(f"DROP TABLE IF EXISTS {table}")
        for statement in (*TABLES.values(), *indexes(), *([SEARCH] if self.has_search else [])):
            self.rows(statement)
        self.note("generation", max(before + 1, int(time.time())))


MARKS = ("all", "signal", "no-signal", "truncated", "errors", "rewarded-but-wrong", "right", "wrong")
"""What can be true of a group; a bit each, in this order. The first one always is."""


def storable(text: str) -> str:
    """What SQLite can keep: half of a surrogate pair, which a cut answer may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def indexes() -> list[str]:
    """A mark's index holds only the groups that bear it, so it counts and pages them at once."""
    marked = [f"CREATE INDEX groups_{bit} ON groups (id) WHERE marks & {1 << bit}" for bit in range(len(MARKS))]
    return [
        *marked,
        "CREATE INDEX groups_by_reward ON groups (reward)",
        "CREATE INDEX groups_by_prompt ON groups (prompt)",
        "CREATE INDEX prompts_by_name ON prompts (prompt)",
    ]


def _has_fts5() -> bool:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        return bool(connection.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()[0])
