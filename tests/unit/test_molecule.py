# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The platform's molecule scenario runs every integration playbook there is."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_verify_imports_every_integration_playbook():
    plays = yaml.safe_load((ROOT / "molecule/platform/verify.yml").read_text())
    imported = sorted(Path(play["ansible.builtin.import_playbook"]).name for play in plays)
    assert imported == sorted(path.name for path in (ROOT / "tests/integration").glob("*.yml"))
