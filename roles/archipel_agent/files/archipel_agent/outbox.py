# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pushes must remember over the agent's death: those not delivered yet, what was told, what the server holds.

A database of its own, because it is written at each event: it is not synchronised to the disk each time (SQLite's
``synchronous=NORMAL``), so it outlives the process at any line; after a loss of power the last moment may come twice.
What SQLite does synchronise, the move from its log into the file itself (https://sqlite.org/wal.html#ckpt), goes on in
a thread: in the loop it would hold pushes up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import sqlite3
import threading
import typing as t

from . import database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS items_of ON items (owner);
CREATE TABLE IF NOT EXISTS told (jid TEXT PRIMARY KEY, state INTEGER, definition TEXT);
CREATE TABLE IF NOT EXISTS made (jid TEXT NOT NULL, what TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (jid, what));
"""
_TABLES = {"items": "owner", "told": "jid", "made": "jid"}  # and whose a row is


# Changes until the log moves; SQLite's own measure, 1000 pages, is reached by a quarter of them.
_MOVED_AT = 1000
_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"


@dataclasses.dataclass(frozen=True)
class Item:
    """A push on the events node of ``owner``, a bare JID; ``payload`` is the serialised <push/>."""

    number: int
    owner: str
    id: str
    payload: str


class Told(t.NamedTuple):
    """How a machine stands as far as it was told.

    ``state`` is virDomainState, None where there is no domain. ``definition`` is a digest (standings.Standing), ""
    without one, None where it was told that it changed and nobody has looked yet.
    """

    state: int | None
    definition: str | None


class Outbox:
    """The database. All JIDs are bare."""

    def __init__(self, path: str | pathlib.Path) -> None:
        self._path = path
        self._database = database.opened(path, _SCHEMA, "NORMAL")
        self._database.execute("PRAGMA wal_autocheckpoint=0")
        last = self._database.execute("SELECT ifnull(max(number), 0) FROM items").fetchone()[0]
        self._numbers = itertools.count(last + 1)
        self._mover: threading.Thread | None = None
        self._moved = 0  # self._database.total_changes when the log was last moved

    def close(self) -> None:
        """Closes the file."""
        if self._mover is not None:
            self._mover.join()
        self._database.close()

    def _tidy(self) -> None:
        """Has a log that has grown moved by a thread; what was written meanwhile follows, and the log begins anew."""
        if self._mover is None:
            if self._database.total_changes - self._moved > _MOVED_AT:
                self._mover = threading.Thread(target=_move, args=(self._path,), name="outbox")
                self._mover.start()
        elif not self._mover.is_alive():
            self._database.execute(_MOVE)
            self._mover, self._moved = None, self._database.total_changes

    # Pushes

    def add(self, entries: t.Iterable[tuple[str, str, str]], told: t.Mapping[str, Told] | None = None) -> list[Item]:
        """Keeps pushes, each (owner, id, payload), and what they tell of machines, by JID: all, or none."""
        items = [Item(next(self._numbers), *entry) for entry in entries]
        with self._transaction():
            self._database.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?)", [(one.number, one.owner, one.id, one.payload) for one in items]
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?)", [(jid, *one) for jid, one in (told or {}).items()]
            )
        self._tidy()
        return items

    def done(self, *items: Item) -> None:
        """The pushes are on their nodes, or never will be."""
        with self._transaction():
            self._database.executemany("DELETE FROM items WHERE number = ?", [(item.number,) for item in items])
        self._tidy()

    @contextlib.contextmanager
    def _transaction(self) -> t.Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def items(self) -> dict[str, list[Item]]:
        """The pushes that may not be on their nodes yet, by owner, in their order."""
        found: dict[str, list[Item]] = {}
        for values in self._database.execute("SELECT number, owner, id, payload FROM items ORDER BY number"):
            item = Item(*values)
            found.setdefault(item.owner, []).append(item)
        return found

    # What was told

    def all_told(self) -> dict[str, Told]:
        """What was told of each machine."""
        return {jid: Told(*rest) for jid, *rest in self._database.execute("SELECT jid, state, definition FROM told")}

    # What the server holds

    def all_made(self) -> dict[tuple[str, str], str]:
        """Digests of what was made on the server, by owner and kind."""
        return {(jid, what): digest for jid, what, digest in self._database.execute("SELECT * FROM made")}

    def make(self, jid: str, what: str, digest: str) -> None:
        """Remembers that it is made."""
        self._database.execute("INSERT OR REPLACE INTO made VALUES (?, ?, ?)", (jid, what, digest))

    def unmake(self, jid: str, what: str) -> None:
        """It is to be made again."""
        self._database.execute("DELETE FROM made WHERE jid = ? AND what = ?", (jid, what))

    def forget(self, jid: str) -> None:
        """Drops everything about an entity."""
        for table, column in _TABLES.items():
            self._database.execute(f"DELETE FROM {table} WHERE {column} = ?", (jid,))

    def known(self) -> set[str]:
        """Of whom there is anything."""
        return {
            jid
            for table, column in _TABLES.items()
            for (jid,) in self._database.execute(f"SELECT DISTINCT {column} FROM {table}")
        }


def _move(path: str | pathlib.Path) -> None:
    """In a thread. It needs nobody to stop writing; one that fails is made up for by the next."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(_MOVE)
