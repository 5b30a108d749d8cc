# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running other programs: quiet when they succeed, the end of what they said when they fail."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class LabError(Exception):
    """Something the lab needs is not there or failed; the text is for the person who typed the command."""


def run(command: Sequence[str | Path], *, stdin: str | None = None, check: bool = True) -> str:
    """Run a command and return its standard output; with check, a failure is a LabError with its last words."""
    result = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and result.returncode:
        words = "\n".join((result.stdout + result.stderr).splitlines()[-20:])
        raise LabError(f"{command[0]} failed ({result.returncode}):\n{words}")
    return result.stdout


def say(text: str) -> None:
    """Progress goes to standard error: standard output is for answers."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel drops it when this process dies, however it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_ino != os.fstat(handle.fileno()).st_ino:
                continue  # the holder before us removed the file
            yield
            return


def wait_until(condition, what: str, seconds: float) -> None:
    """Poll until condition() is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(0.1)


def mounted(path: Path) -> bool:
    """Whether something is mounted on exactly this path."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return str(path) in points
