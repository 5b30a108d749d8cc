# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a module without Ansible around it: module.py NAME ARGUMENTS RESULT, the last two files of JSON.

Prints when it began (seconds since 1970), the seconds that it took, its imports included, and the KiB it held at most.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import resource
import sys
import time
from pathlib import Path

begin, wall = time.monotonic(), time.time()

from ansible.module_utils import basic  # noqa: E402 - part of what is measured


def main(name: str, arguments: str, result: str) -> None:
    content = json.loads(Path(arguments).read_text())
    content.update(_ansible_check_mode=content.pop("check", False), _ansible_diff=True)
    # As Ansible's wrapper hands them over.
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": content}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(f"ansible_collections.archipel.platform.plugins.modules.{name}").main()
    seconds = time.monotonic() - begin
    Path(result).write_text(output.getvalue())
    print(wall, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(*sys.argv[1:])
