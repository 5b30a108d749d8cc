# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Archipel 0.6 left on a hypervisor: its databases, and passwords in descriptions. Nothing here is written.

``hypervisor.sqlite3`` has one table ``virtualmachines (jid, password, creation_date, comment, name)`` without a key;
each entity has a ``permissions.sqlite3`` of its own, with ``users_have_permissions (user, permission)``. Definitions
have ``<uuid>@<domain>::::<password>`` in their <description>.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sqlite3
import typing as t

from archipel_protocol import jids

_DATABASE = "hypervisor.sqlite3"
_PERMISSIONS = "permissions.sqlite3"
_ROWS = "SELECT jid, password, creation_date, comment, name FROM virtualmachines ORDER BY rowid"
_GRANTS = 'SELECT DISTINCT "user", permission FROM users_have_permissions ORDER BY 1, 2'

Pair = t.Tuple[str, str]  # bare JID of a user, name of a permission


class LegacyError(Exception):
    """The state of 0.6 cannot be read; the text says what is wrong where."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """One row; ``grants`` are those of the machine's own database."""

    uuid: str
    domain: str
    password: str = dataclasses.field(repr=False)
    creation_date: str
    comment: str
    name: str
    grants: tuple[Pair, ...]


@dataclasses.dataclass(frozen=True)
class Legacy:
    """All of one hypervisor; ``ignored`` tells of rows that are no virtual machine's, without their passwords."""

    machines: tuple[Machine, ...]
    grants: tuple[Pair, ...]
    ignored: tuple[str, ...]


def read(folder: pathlib.Path, machines_folder: pathlib.Path) -> Legacy:
    """What is in 0.6's ``archipel_folder_lib``, and in its ``vm_perm_path`` or ``vm_base_path``; raises LegacyError."""
    path = folder / _DATABASE
    if not path.is_file():
        raise LegacyError(f"there is no {path}; the folder that was archipel_folder_lib in Archipel 0.6 is meant")
    machines: dict[str, Machine] = {}
    ignored = []
    for number, values in enumerate(_select(path, _ROWS), 1):
        jid, password, creation_date, comment, name = (_text(value) for value in values)
        uuid, domain = jids.node(jid), jids.domain(jid)
        if not jids.is_uuid(uuid) or not jids.is_account(jids.bare(jid)):
            ignored.append(f"row {number} of {path} has the JID '{jid}', which is no virtual machine's")
        elif not password:
            ignored.append(f"row {number} of {path}, {jid}, has no password")
        else:
            grants = _pairs(machines_folder / uuid / _PERMISSIONS)
            machines[uuid] = Machine(uuid, domain, password, creation_date, comment, name or uuid, grants)
    return Legacy(tuple(machines.values()), _pairs(folder / _PERMISSIONS), tuple(ignored))


def without_password(description: str, uuid: str, password: str = "") -> str:
    """A description without what 0.6 wrote there; the very same text where it wrote nothing."""
    known = f"(?:{re.escape(password)}(?!\\S)|\\S*)" if password else r"\S*"
    found = re.compile(rf"(?i:{re.escape(uuid)})@[^\s:]+::::{known}")
    if not found.search(description):
        return description
    return found.sub("", description).strip()


def _pairs(path: pathlib.Path) -> tuple[Pair, ...]:
    """The grants in one database; none where there is none, which in 0.6 granted nothing."""
    if not path.is_file():
        return ()
    return tuple((jids.bare(_text(user)), _text(permission)) for user, permission in _select(path, _GRANTS))


def _select(path: pathlib.Path, query: str) -> list[tuple[t.Any, ...]]:
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()
    except sqlite3.Error as fault:
        raise LegacyError(f"{path} cannot be read as a database of Archipel 0.6: {fault}") from None


def _text(value: t.Any) -> str:
    """SQLite's columns take values of any type."""
    return "" if value is None else str(value).strip()
