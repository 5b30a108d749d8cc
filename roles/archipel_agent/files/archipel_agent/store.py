# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt has no place for: the managed virtual machines, their XMPP passwords, a migration's intention."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import pathlib
import sqlite3
import time
import typing as t

from . import database

# Columns of virtualmachines beyond Archipel's five:
#   registered    the account is known to exist
#   next_password a password that was sent to the server; it counts if ``password`` no longer does
#   releasing     management ends as soon as the account is removed
#   handover_to   bare JID of the hypervisor that a migration goes to; set before libvirt is asked
#   handover_autostart  whether the machine is to start with its host there
# profiles: what a machine's vCard says beyond its name: JSON, text by field (vcard.py).
# unfinished: what was begun on a machine and has to be brought to an end, or taken back (unfinished.py).
# expected: machines that were not here when a peer said that it was about to move them here (handover.py).
# begun: volumes that were begun for a machine whose definition does not say yet that they are its own (metadata.py).
# tags: the hypervisor's own.
# former: passwords that the server acknowledged to count no more. It keeps such a change in memory for two seconds
#   before it writes it down, so one that is killed meanwhile comes back with the old password, or with an account that
#   was removed.
# adopted: entities whose state of Archipel 0.6 was taken over (adoption.py), by bare JID.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS virtualmachines (
    jid TEXT PRIMARY KEY,
    password TEXT NOT NULL,
    creation_date TEXT NOT NULL,
    comment TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL,
    registered INTEGER NOT NULL DEFAULT 0,
    next_password TEXT,
    releasing INTEGER NOT NULL DEFAULT 0,
    handover_to TEXT,
    handover_autostart INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS profiles (jid TEXT PRIMARY KEY, fields TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS unfinished (uuid TEXT PRIMARY KEY, action TEXT NOT NULL, details TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS expected (uuid TEXT PRIMARY KEY, peer TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS begun (
    uuid TEXT NOT NULL, pool TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (uuid, pool, name)
);
CREATE TABLE IF NOT EXISTS tags (tag TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS former (
    jid TEXT NOT NULL, password TEXT NOT NULL, removed INTEGER NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS adopted (jid TEXT PRIMARY KEY);
"""
# Seconds after which a server that still answers, or was asked by Store.removed() meanwhile, has written it down.
_WRITTEN = 60.0
# Announced machines that are remembered; of more, the oldest are forgotten.
_EXPECTED = 10000


class Unfinished(t.NamedTuple):
    """An intention; ``details`` is what its ``action`` needs to go on."""

    uuid: str
    action: str
    details: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One managed virtual machine; ``jid`` is bare."""

    jid: str
    password: str = dataclasses.field(repr=False)
    creation_date: str
    comment: str
    name: str
    registered: bool
    next_password: str | None = dataclasses.field(repr=False)
    releasing: bool
    handover_to: str | None
    handover_autostart: bool


_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_SELECTED = ", ".join(_COLUMNS)
_INSERT = f"INSERT INTO virtualmachines ({_SELECTED}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class ForeignDatabase(Exception):
    """The file is not a database of ours; the text says what to do."""


class Store:
    """The database of one hypervisor. Each change is durable when its method returns (0.1 to 5 ms).

    Rows and intentions are asked for at each step, so they are in memory, too: nobody else writes while the agent runs.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        """Raises ForeignDatabase where the file is that of Archipel 0.6, which has the same name."""
        self._database = database.opened(path, _SCHEMA, check=functools.partial(_refuse_foreign, path))
        found = self._database.execute(f"SELECT {_SELECTED} FROM virtualmachines")
        self._rows = {row.jid: row for row in map(_row, found)}
        begun = self._database.execute("SELECT uuid, action, details FROM unfinished")
        self._unfinished = {uuid: Unfinished(uuid, action, json.loads(details)) for uuid, action, details in begun}
        self._volumes: dict[str, list[tuple[str, str]]] = {}
        for uuid, pool, volume in self._database.execute("SELECT uuid, pool, name FROM begun"):
            self._volumes.setdefault(uuid, []).append((pool, volume))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def rows(self) -> list[Row]:
        """Every managed virtual machine."""
        return sorted(self._rows.values(), key=lambda row: row.jid)

    def row(self, jid: str) -> Row | None:
        """One virtual machine, given its bare JID."""
        return self._rows.get(jid)

    def add(self, jid: str, name: str, password: str, registered: bool = False) -> Row:
        """A new row; raises sqlite3.IntegrityError where there is one."""
        return self._add([_new(jid, name, password, registered)])[0]

    def add_all(self, machines: t.Iterable[tuple[str, str, str]]) -> list[Row]:
        """New rows, each (jid, name, password): all of them or none."""
        return self._add([_new(*one) for one in machines])

    def _add(self, rows: list[Row]) -> list[Row]:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_INSERT, [dataclasses.astuple(row) for row in rows])
        self._rows.update((row.jid, row) for row in rows)
        return rows

    def change(self, jid: str, **values: t.Any) -> None:
        """Sets columns of a row."""
        unknown = set(values) - set(_COLUMNS)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
        columns = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(f"UPDATE virtualmachines SET {columns} WHERE jid = ?", (*values.values(), jid))
        if jid in self._rows:
            self._rows[jid] = dataclasses.replace(self._rows[jid], **values)

    def remove(self, jid: str) -> None:
        """Deletes a row and its profile; none there is no error."""
        self._database.execute("DELETE FROM profiles WHERE jid = ?", (jid,))
        self._database.execute("DELETE FROM virtualmachines WHERE jid = ?", (jid,))
        self._rows.pop(jid, None)

    def profile(self, jid: str) -> dict[str, str]:
        """The fields of an entity's vCard that are its own."""
        values = self._database.execute("SELECT fields FROM profiles WHERE jid = ?", (jid,)).fetchone()
        return {} if values is None else json.loads(values[0])

    def set_profile(self, jid: str, fields: t.Mapping[str, str]) -> None:
        """Replaces them."""
        self._database.execute("INSERT OR REPLACE INTO profiles VALUES (?, ?)", (jid, json.dumps(dict(fields))))

    # Archipel 0.6

    def adopted(self) -> frozenset[str]:
        """The bare JIDs of all entities whose state of Archipel 0.6 was taken over."""
        return frozenset(jid for (jid,) in self._database.execute("SELECT jid FROM adopted"))

    def adopt(self, rows: t.Iterable[Row], entities: t.Iterable[str]) -> None:
        """New rows, and whose state was taken over: all of it or nothing."""
        adopted = list(rows)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_INSERT, [dataclasses.astuple(row) for row in adopted])
            self._database.executemany("INSERT INTO adopted VALUES (?)", [(jid,) for jid in entities])
        self._rows.update((row.jid, row) for row in adopted)

    # The hypervisor's tags

    def tags(self) -> list[str]:
        """Sorted."""
        return [tag for (tag,) in self._database.execute("SELECT tag FROM tags ORDER BY tag")]

    def set_tags(self, tags: t.Iterable[str]) -> None:
        """These and no others."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM tags")
            self._database.executemany("INSERT INTO tags VALUES (?)", [(tag,) for tag in tags])

    # Passwords that should count no more

    def retire(self, jid: str, password: str, removed: bool = False) -> None:
        """Remembers the password that an account had until just now; ``removed``: as the account itself."""
        now = time.time()
        self._database.execute("DELETE FROM former WHERE at < ?", (now - _WRITTEN,))
        self._database.execute("INSERT INTO former VALUES (?, ?, ?, ?)", (jid, password, removed, now))

    def former(self, jid: str) -> list[str]:
        """The passwords that an account may have again, the last one first."""
        found = self._database.execute("SELECT password FROM former WHERE jid = ? ORDER BY at DESC", (jid,))
        return [password for (password,) in found]

    def removed(self) -> list[tuple[str, str]]:
        """(bare JID, password) of the accounts that were removed and may be there again."""
        query = "SELECT jid, password FROM former WHERE removed AND jid NOT IN (SELECT jid FROM virtualmachines)"
        return list(self._database.execute(query))

    def settle(self, jid: str) -> None:
        """Forgets an account's former passwords."""
        self._database.execute("DELETE FROM former WHERE jid = ?", (jid,))

    # Machines that peers move here

    def expect(self, uuid: str, peer: str) -> None:
        """A machine that is not here is about to come from the node ``peer``."""
        self._database.execute("INSERT OR REPLACE INTO expected VALUES (?, ?, ?)", (uuid, peer, time.time()))
        oldest = "DELETE FROM expected WHERE uuid IN (SELECT uuid FROM expected ORDER BY at DESC LIMIT -1 OFFSET ?)"
        self._database.execute(oldest, (_EXPECTED,))

    def expects(self, uuid: str, peer: str) -> bool:
        """Whether it is to come from there."""
        query = "SELECT 1 FROM expected WHERE uuid = ? AND peer = ?"
        return self._database.execute(query, (uuid, peer)).fetchone() is not None

    def expect_no_more(self, *uuids: str) -> None:
        """They have come, or have become machines of this host in another way."""
        self._database.executemany("DELETE FROM expected WHERE uuid = ?", [(uuid,) for uuid in uuids])

    # Volumes of machines that are being made

    def begin_volume(self, uuid: str, pool: str, name: str) -> None:
        """Remembers that a volume is about to be made for a machine. Again: no change."""
        if (pool, name) not in self.volumes(uuid):
            self._database.execute("INSERT INTO begun VALUES (?, ?, ?)", (uuid, pool, name))
            self._volumes.setdefault(uuid, []).append((pool, name))

    def volumes(self, uuid: str) -> list[tuple[str, str]]:
        """(pool, name) of what was begun for a machine, and its definition may not tell of."""
        return list(self._volumes.get(uuid, ()))

    def forget_volume(self, uuid: str, pool: str, name: str) -> None:
        """It was not made."""
        self._database.execute("DELETE FROM begun WHERE uuid = ? AND pool = ? AND name = ?", (uuid, pool, name))
        self._volumes[uuid] = [one for one in self.volumes(uuid) if one != (pool, name)]

    def forget_volumes(self, uuid: str) -> None:
        """The definition tells of them, or the machine is gone."""
        if self._volumes.pop(uuid, None):
            self._database.execute("DELETE FROM begun WHERE uuid = ?", (uuid,))

    # Intentions

    def begin(self, uuid: str, action: str, details: t.Mapping[str, t.Any] | None = None) -> Unfinished:
        """Remembers what is about to be done to a machine; raises sqlite3.IntegrityError where something is."""
        values = (uuid, action, json.dumps(details or {}))
        self._database.execute("INSERT INTO unfinished (uuid, action, details) VALUES (?, ?, ?)", values)
        begun = self._unfinished[uuid] = Unfinished(uuid, action, dict(details or {}))
        return begun

    def end(self, uuid: str) -> None:
        """It is done, or taken back."""
        self._database.execute("DELETE FROM unfinished WHERE uuid = ?", (uuid,))
        self._unfinished.pop(uuid, None)

    def unfinished(self, uuid: str | None = None) -> list[Unfinished]:
        """Every intention, or that on one machine."""
        if uuid is None:
            return list(self._unfinished.values())
        return [self._unfinished[uuid]] if uuid in self._unfinished else []


def _refuse_foreign(path: str | pathlib.Path, found: sqlite3.Connection) -> None:
    columns = {column[1] for column in found.execute("PRAGMA table_info(virtualmachines)")}
    if columns and not columns.issuperset(_COLUMNS):
        raise ForeignDatabase(
            f"{path} is a database of Archipel 0.6; move its folder aside, and take it over with archipel_import"
        )


def _new(jid: str, name: str, password: str, registered: bool = False) -> Row:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Row(jid, password, now, "", name, registered, None, False, None, False)


def _row(values: t.Sequence[t.Any]) -> Row:
    named = dict(zip(_COLUMNS, values))
    for flag in ("registered", "releasing", "handover_autostart"):
        named[flag] = bool(named[flag])
    return Row(**named)
