# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role says on hosts that no test has: its variables, templates and tasks with the facts of such a host."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]


class Rendered:
    """A role's variables as a host would have them.

    `facts` are what Ansible gathers there, `variables` what the inventory says on top of the role's own.
    """

    def __init__(self, role: str, facts: dict, **variables) -> None:
        self.folder = ROOT / "roles" / role
        loader = DataLoader()
        self.variables = {}
        for path in [self.folder / "defaults/main.yml", *sorted((self.folder / "vars").rglob("*.yml"))]:
            self.variables.update(loader.load_from_file(str(path), trusted_as_template=True))
        self.variables.update(ansible_facts=facts, ansible_managed="Ansible managed", ansible_check_mode=False)
        self.variables.update(variables)
        self.templar = Templar(loader)

    def value(self, expression: str, **variables):
        """The value of a variable or an expression."""
        return self._render("{{ " + expression + " }}", variables)

    def template(self, name: str, **variables) -> str:
        """A template's text."""
        return self._render((self.folder / "templates" / name).read_text(), variables)

    def task(self, file: str, name: str) -> dict:
        """A task as it is written, found in its file also inside blocks."""
        pending = yaml.safe_load((self.folder / "tasks" / file).read_text())
        while pending:
            task = pending.pop()
            if task["name"] == name:
                return task
            pending += task.get("block", [])
        raise KeyError(name)

    def text(self, template: str, **variables):
        """A text of a task, rendered."""
        return self._render(template, variables)

    def _render(self, text: str, variables: dict):
        self.templar.available_variables = {**self.variables, **variables}
        return self.templar.template(trust_as_template(text))
