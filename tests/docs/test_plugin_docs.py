# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-doc shows every module, inventory plugin and role, as a user would ask for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shown(kind: str, names: list[str]) -> dict:
    answer = subprocess.run(
        ["ansible-doc", "--json", "--type", kind, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize(("kind", "folder"), [("module", "modules"), ("inventory", "inventory")])
def test_plugins_are_documented(kind, folder):
    names = sorted(f"archipel.platform.{path.stem}" for path in (ROOT / "plugins" / folder).glob("*.py"))
    documents = shown(kind, names)
    assert sorted(documents) == names
    assert [name for name, parts in documents.items() if not (parts.get("doc") and parts.get("examples"))] == []


def test_roles_are_documented():
    names = sorted(f"archipel.platform.{path.name}" for path in (ROOT / "roles").iterdir() if path.is_dir())
    documents = shown("role", names)
    assert sorted(documents) == names
    assert [name for name, role in documents.items() if "main" not in role["entry_points"]] == []
