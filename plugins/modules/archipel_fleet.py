#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_fleet
short_description: Declare many virtual machines
version_added: 1.0.0
description:
  - Makes a list of declared virtual machines true over all hypervisors, in one task and one XMPP session.
  - Each element of O(vms) has the options of M(archipel.platform.archipel_vm).
  - What is wrong with the declarations is told at once, before anything changes. Later, a virtual machine that fails
    does not keep the others; the task fails when all are done.
author:
  - Archipel maintainers (@archipel)
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.vm.list
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
seealso:
  - module: archipel.platform.archipel_vm
  - module: archipel.platform.archipel_vm_info
"""

EXAMPLES = r"""
- name: The inventory's virtual machines are as they are declared
  archipel.platform.archipel_fleet:
    vms: "{{ archipel_vms }}"

- name: Two web servers run, each on a hypervisor of its own
  archipel.platform.archipel_fleet:
    vms:
      - name: web1
        hypervisor: hv1
        state: running
        memory: 2GiB
        disks:
          - name: root
            size: 20GiB
        networks:
          - network: default
      - name: web2
        hypervisor: hv2
        state: running
        memory: 2GiB
        disks:
          - name: root
            size: 20GiB
        networks:
          - network: default
"""

RETURN = r"""
vms:
  description: What became of each element of O(vms), in its order.
  returned: always, once the hypervisors were asked
  type: list
  elements: dict
  contains:
    name:
      description: Name of the virtual machine.
      type: str
      sample: web1
    changed:
      description: Whether it changed, or in check mode would.
      type: bool
      sample: true
    actions:
      description: What was done, or in check mode would be, in the order of doing.
      type: list
      elements: str
      sample:
        - define
        - start
    restart_required:
      description: What a running virtual machine does not have until its next start.
      type: list
      elements: str
      sample: []
    applied_live:
      description: Those of the actions that the running guest sees without a restart.
      type: list
      elements: str
      sample: []
    vm:
      description: The virtual machine, as M(archipel.platform.archipel_vm) returns it.
      type: dict
      sample:
        name: web1
        uuid: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a
        hypervisor: hv1
        state: running
    error:
      description: Why it failed; not there if it did not.
      type: str
      sample: "'web1' on hv1: there is no network 'dmz'"
"""

import typing as t

from ansible_collections.archipel.platform.plugins.module_utils import _arguments, _connection, _converge, _spec
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError


def report(outcome: _converge.Outcome) -> dict[str, t.Any]:
    """One element of the result ``vms``."""
    shown: dict[str, t.Any] = {
        "name": outcome.name,
        "changed": outcome.changed,
        "actions": list(outcome.actions),
        "restart_required": list(outcome.restart_required),
        "applied_live": list(outcome.applied_live),
        "vm": outcome.vm or {},
    }
    if outcome.error is not None:
        shown["error"] = outcome.error.message
    return shown


def summary(outcomes: t.Sequence[_converge.Outcome]) -> str:
    """Why the task fails: how many virtual machines did, and each of their reasons."""
    failed = [outcome.error.message for outcome in outcomes if outcome.error is not None]
    reasons = "".join(f"\n- {text}" for text in failed)
    return f"{len(failed)} of {len(outcomes)} virtual machines failed:{reasons}"


def main() -> None:
    element = {"type": "list", "elements": "dict", "required": True, "options": _spec.argument_spec()}
    module = _arguments.Module(
        lambda params: _converge.problems(params["vms"] or [], "vms"),
        whole=["vms"],
        argument_spec={**_connection.argument_spec(), "vms": element},
        supports_check_mode=True,
    )
    try:
        with Client(_connection.options(module.params)) as client:
            outcomes = _converge.converge(Agents(client), module.params["vms"], module.check_mode)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    for outcome in outcomes:
        if outcome.warning:
            module.warn(outcome.warning)
    result: dict[str, t.Any] = {
        "changed": any(outcome.changed for outcome in outcomes),
        "vms": [report(outcome) for outcome in outcomes],
        "diff": [outcome.diff for outcome in outcomes if outcome.changed],
    }
    if any(outcome.error is not None for outcome in outcomes):
        module.fail_json(msg=summary(outcomes), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
