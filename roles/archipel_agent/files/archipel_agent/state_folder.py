# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of the agent's databases: one process at a time works there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pwd
import typing as t


class Unusable(Exception):
    """Nothing can be done in the folder; the text says why."""


@contextlib.contextmanager
def held(folder: pathlib.Path) -> t.Iterator[None]:
    """Holds the folder while the body runs; raises Unusable where another process does.

    The lock (flock(2)) is the kernel's: it ends with its process, however that ends, and is not inherited by programs
    that are started meanwhile. It is the folder's and not the database's, because SQLite's own locks are lost when any
    descriptor of their file is closed (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise Unusable(f"{folder} cannot be used: {fault.strerror}; the role archipel_agent makes it") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unusable(f"{folder} is in use: archipel-agent runs, or an import; stop it first") from None
        yield
    finally:
        os.close(descriptor)


def become_owner(folder: pathlib.Path) -> None:
    """Go on as the owner of the folder, so that what is made there is the agent's own; raises Unusable.

    From root there is no way back. An owner stays who they are.
    """
    try:
        owner = folder.stat()
    except OSError as fault:
        raise Unusable(f"{folder} cannot be used: {fault.strerror}; the role archipel_agent makes it") from None
    if os.geteuid() == owner.st_uid:
        return
    if os.geteuid() != 0:
        raise Unusable(f"{folder} belongs to somebody else; do this as root")
    user = pwd.getpwuid(owner.st_uid)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    # What libraries look for their settings by.
    os.environ["HOME"] = user.pw_dir
