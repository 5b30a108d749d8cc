# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""SQLite databases that nobody but the agent can read."""

from __future__ import annotations

import os
import pathlib
import sqlite3
import typing as t


def opened(
    path: str | pathlib.Path,
    schema: str,
    synchronous: str = "FULL",
    check: t.Callable[[sqlite3.Connection], None] | None = None,
) -> sqlite3.Connection:
    """The database at ``path``, made where there is none; transactions begin where they are said to.

    ``check`` sees it before anything in it changes, and raises where it is to stay as it is.
    """
    # Made with its mode, not mended after: it never is readable by others.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)
    database = sqlite3.connect(path, isolation_level=None)
    try:
        if check is not None:
            check(database)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.executescript(schema)
    except BaseException:
        database.close()
        raise
    return database
