# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""molecule's scenarios leave out no role and no integration playbook."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from archipel_lab.topology import HOSTS

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def imports(playbook: Path) -> set[Path]:
    """The playbooks that a playbook imports."""
    plays = yaml.safe_load(playbook.read_text())
    names = [play["ansible.builtin.import_playbook"] for play in plays if "ansible.builtin.import_playbook" in play]
    return {(playbook.parent / name).resolve() for name in names}


def test_the_scenarios_are_the_platform_and_each_role():
    assert sorted([*ROLES, "platform"]) == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_converges_and_verifies_on_hosts_of_the_lab(scenario):
    folder = ROOT / "molecule" / scenario
    assert all((folder / name).is_file() for name in ("converge.yml", "verify.yml"))
    platforms = yaml.safe_load((folder / "molecule.yml").read_text())["platforms"]
    assert {platform["name"] for platform in platforms} <= set(HOSTS)


def test_verify_imports_every_integration_playbook():
    playbooks = set((ROOT / "tests/integration").glob("*.yml"))
    parts = set().union(*map(imports, playbooks))
    verified = set().union(*(imports(ROOT / "molecule" / scenario / "verify.yml") for scenario in SCENARIOS))
    assert playbooks - parts == {path for path in verified if path.parent == ROOT / "tests/integration"} - parts
