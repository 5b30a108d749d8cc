# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian in a directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import machine
from .process import run


def install(root: Path, release: str, packages: Iterable[str], customize: str, *options: str) -> None:
    """Install `packages` of `release` below `root`, and run the script `customize` with the root as its argument.

    Further `options` are mmdebstrap's.
    """
    with tempfile.TemporaryDirectory() as directory:
        hook, configuration = Path(directory, "customize"), Path(directory, "apt.conf")
        hook.write_text(customize)
        configuration.write_text(machine.acquire_options())
        # A mount namespace of its own: the mounts in the new root go away with mmdebstrap, also when it is killed.
        run(
            [
                *("unshare", "--mount", "--propagation=private"),
                *("mmdebstrap", "--mode=root", "--variant=minbase", *options),
                f"--include={','.join(packages)}",
                f"--aptopt={configuration}",
                f'--customize-hook=sh {hook} "$1"',
                *(release, root, "-"),
            ],
            stdin=machine.sources(release),
        )
