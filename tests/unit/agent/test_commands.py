# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands and actions belong together. The sources are read, not imported: libvirt is not here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from archipel_agent import commands
from archipel_protocol import declaration, namespaces as ns

SOURCES = Path(commands.__file__).parent
KINDS = ("vm", "hypervisor")

# What can be done and nobody says in words.
OF_BOTH = {
    (ns.AVATAR, "getavatars"): "pictures",
    (ns.AVATAR, "setavatar"): "chosen from pictures",
    **{
        (ns.PERMISSIONS, action): "clients and archipel_permission have forms of their own"
        for action in ("list", "get", "getown", "set", "setown")
    },
    **{(ns.SUBSCRIPTION, action): "a client's own work" for action in ("add", "remove")},
}
WITHOUT_WORDS = {
    "vm": {
        **OF_BOTH,
        (ns.VM_CONTROL, "free"): "said to its hypervisor, which stays and answers",
        (ns.VM_CONTROL, "screenshot"): "a picture",
        (ns.VM_DEFINITION, "define"): "takes a whole definition",
    },
    "hypervisor": {
        **OF_BOTH,
        **{(ns.HYPERVISOR_CONTROL, action): "takes elements" for action in ("manage", "unmanage", "setorginfo")},
        (ns.HYPERVISOR_CONTROL, "soft_alloc"): "takes a whole definition, and an account",
        **{
            (ns.DECLARATION, action): "takes and gives JSON"
            for action in ("inventory", "hypervisor", "plan", "apply", "migrate", "migrate_plan", "progress")
        },
        **{(ns.GRANTS, action): "takes and gives JSON" for action in ("plan", "apply")},
        **{(ns.HANDOVER, action): "between hypervisors" for action in ("query", "offer", "claim", "make", "use")},
    },
}


def capabilities() -> list[str]:
    """agent.CAPABILITIES"""
    for node in ast.walk(ast.parse((SOURCES / "agent.py").read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == "CAPABILITIES" for one in targets):
            return list(ast.literal_eval(node.value))
    raise AssertionError("agent.py names no CAPABILITIES")


def declared() -> set[tuple[str, str, str]]:
    """(kind, namespace, action) of each handler(...) in the capabilities' sources."""
    found = set()
    between_agents = constants_of(ast.parse((SOURCES / "peers.py").read_text()))
    for name in capabilities():
        tree = ast.parse((SOURCES / f"{name}.py").read_text())
        constants = {**between_agents, **constants_of(tree)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("handler", "_everywhere"):
                continue
            namespace, action = node.args[:2]
            on = next((keyword.value for keyword in node.keywords if keyword.arg == "on"), None)
            if isinstance(namespace, ast.Attribute):  # else it is _everywhere's own
                for kind in [on.value] if isinstance(on, ast.Constant) else KINDS:
                    found.add((kind, getattr(ns, namespace.attr), value(action, constants)))
    return found


def constants_of(tree: ast.Module) -> dict[str, str]:
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }


def value(node: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return node.value
    return constants[node.id] if isinstance(node, ast.Name) else getattr(declaration, node.attr)


def test_every_command_is_an_action():
    assert {(one.on, one.namespace, one.action) for one in commands.COMMANDS} <= declared()


@pytest.mark.parametrize("kind", KINDS)
def test_every_action_has_words_or_a_reason_for_none(kind):
    spoken = {(one.namespace, one.action) for one in commands.known(kind)}
    actions = {(namespace, action) for on, namespace, action in declared() if on == kind}
    assert actions - spoken == set(WITHOUT_WORDS[kind])


def test_nothing_that_has_to_be_said_follows_what_may_be_left_out():
    for command in commands.COMMANDS:
        assert list(command.fields) == sorted(command.fields, key=lambda field: field.optional)
