# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The platform's molecule scenario runs every integration playbook there is."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def imports(playbook: Path) -> set[Path]:
    """The playbooks that a playbook imports."""
    plays = yaml.safe_load(playbook.read_text())
    names = [play["ansible.builtin.import_playbook"] for play in plays if "ansible.builtin.import_playbook" in play]
    return {(playbook.parent / name).resolve() for name in names}


def test_verify_imports_every_integration_playbook():
    playbooks = set((ROOT / "tests/integration").glob("*.yml"))
    parts = set().union(*map(imports, playbooks))
    assert imports(ROOT / "molecule/platform/verify.yml") == playbooks - parts
