# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs of a repository's .gitlab-ci.yml, run here as GitLab would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def job(repository: Path, name: str, site: str = "", **settings: str) -> subprocess.CompletedProcess:
    """The end of a job, for one site of its matrix. ``settings``: the project's variables, which GitLab keeps."""
    ci = yaml.safe_load((repository / ".gitlab-ci.yml").read_text())
    ours = {**ci.get(ci[name].get("extends"), {}), **ci[name]}
    matrix = next((one for one in ours.get("parallel", {}).get("matrix", []) if one["SITE"] == site), {})
    given = {
        "CI_PROJECT_DIR": str(repository),
        **settings,
        **matrix,
        **ci.get("variables", {}),
        **ours.get("variables", {}),
    }
    # A variable may name one that names another one.
    for dummy in given:
        given = {key: _expanded(text, given) for key, text in given.items()}
    return shell(repository, *ours["script"], **given)


def _expanded(text: str, variables: dict[str, str]) -> str:
    """A variable that nobody has set is empty."""
    return re.sub(r"\$(\w+)", lambda found: variables.get(found[1], ""), text)


def shell(repository: Path, *lines: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs lines of a script at the top of the repository, with nothing of this checkout but its collections."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIPEL", "ANSIBLE"))}
    environment["PATH"] = "{}:{}".format(Path(sys.executable).parent, os.environ["PATH"])
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".ansible" / "collections")
    command = ["bash", "-euc", "\n".join(lines)]
    return subprocess.run(
        command, cwd=repository, env={**environment, **variables}, capture_output=True, text=True, check=False
    )
