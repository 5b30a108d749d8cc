# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the databases that Archipel 0.6 left on a hypervisor, of a JSON object on stdin.

{"folder": archipel_folder_lib, "machines": vm_base_path, "rows": [[jid, password, creation_date, comment, name]],
"grants": {"" or UUID of a machine: [[user, permission]]}}
"""

import json
import os
import pathlib
import sqlite3
import sys

# The tables as 0.6 made them; "default" permissions and descriptions do not matter here.
ROWS = "CREATE TABLE virtualmachines (jid text, password text, creation_date date, comment text, name text)"
GRANTS = """
CREATE TABLE users (name VARCHAR NOT NULL, PRIMARY KEY (name));
CREATE TABLE permissions (
    name VARCHAR NOT NULL, description VARCHAR, "defaultValue" INTEGER, PRIMARY KEY (name)
);
CREATE TABLE users_have_permissions (
    user VARCHAR, permission VARCHAR,
    FOREIGN KEY(user) REFERENCES users (name), FOREIGN KEY(permission) REFERENCES permissions (name)
);
"""


def make(folder, machines, rows, grants):
    """Makes them; there must be none."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "hypervisor.sqlite3") as database:
        database.execute(ROWS)
        database.executemany("INSERT INTO virtualmachines VALUES (?, ?, ?, ?, ?)", rows)
    database.close()
    for entity, pairs in grants.items():
        place = pathlib.Path(machines, entity) if entity else folder
        place.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(place / "permissions.sqlite3") as database:
            database.executescript(GRANTS)
            database.executemany("INSERT OR IGNORE INTO users VALUES (?)", [(user,) for user, dummy in pairs])
            names = [(name, "", 0) for dummy, name in pairs]
            database.executemany("INSERT OR IGNORE INTO permissions VALUES (?, ?, ?)", names)
            database.executemany("INSERT INTO users_have_permissions VALUES (?, ?)", pairs)
        database.close()


if __name__ == "__main__":
    os.umask(0o022)
    make(**json.load(sys.stdin))
