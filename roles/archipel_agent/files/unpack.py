# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the files of a JSON object on stdin, {path: text}, the only modules of their folders; prints what changes.

With --dry-run it only prints.
"""

import compileall
import json
import os
import pathlib
import sys

dry_run = "--dry-run" in sys.argv
files = {pathlib.Path(path): text for path, text in json.load(sys.stdin).items()}
folders = {path.parent for path in files}
stale = [path for folder in folders for path in folder.glob("*.py") if path not in files]
changed = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
print(*sorted(map(str, changed + stale)), sep="\n", end="")
if not dry_run and (changed or stale):
    for path in changed:
        new = path.with_suffix(".new")
        new.write_text(files[path], encoding="utf-8")
        new.chmod(0o644)
        os.replace(new, path)
    for path in stale:
        path.unlink()
    for folder in folders:
        # The agent may not write here.
        compileall.compile_dir(folder, quiet=1)
