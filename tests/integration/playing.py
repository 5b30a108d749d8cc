# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks with a task of archipel_vm, run from here as the platform's automation account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def play(platform, path: Path, *arguments: str, **vm) -> subprocess.CompletedProcess:
    """Writes a playbook that declares ``vm`` to ``path``, and runs it with these arguments."""
    connection = {
        "jid": f"automation@{platform.domain}",
        "server": platform.address(platform.xmpp),
        "ca_file": platform.ca_file,
    }
    tasks = [{"archipel.platform.archipel_vm": {**vm, **connection}}]
    path.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    return subprocess.run(
        ["ansible-playbook", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", *arguments, path],
        env={**os.environ, "ARCHIPEL_PASSWORD": platform.password("automation")},
        capture_output=True,
        check=False,
        text=True,
    )
