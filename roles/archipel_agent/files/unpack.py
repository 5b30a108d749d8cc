# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the files of a JSON object, {path: text}, and removes every other module from their folders."""

import compileall
import json
import os
import pathlib
import sys

files = {pathlib.Path(path): text for path, text in json.load(sys.stdin).items()}
folders = {path.parent for path in files}
for path, text in files.items():
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    os.replace(new, path)
for folder in folders:
    for path in folder.glob("*.py"):
        if path not in files:
            path.unlink()
    # The agent may not write here.
    compileall.compile_dir(folder, quiet=1)
