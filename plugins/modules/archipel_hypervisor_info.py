#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_hypervisor_info
short_description: Read what hypervisors have and can do
version_added: 1.0.0
description:
  - Reads of each hypervisor its versions, processors and memory with what is free of them, the kinds of virtual
    machines that it runs, its storage pools, CD images and networks.
  - A hypervisor whose agent does not answer is in RV(silent); it is an error only where O(hypervisor) names it.
author:
  - Archipel maintainers (@archipel)
options:
  hypervisor:
    description: The only hypervisor that is asked. If not given, all are.
    type: str
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.reading
seealso:
  - module: archipel.platform.archipel_vm_info
"""

EXAMPLES = r"""
- name: What is there
  archipel.platform.archipel_hypervisor_info:
  register: platform

- name: Where most memory is free
  ansible.builtin.debug:
    msg: "{{ (platform.hypervisors | sort(attribute='memory.free') | last).name }}"

- name: The CD images of one hypervisor
  archipel.platform.archipel_hypervisor_info:
    hypervisor: hv1
  register: hv1

- name: Print their paths
  ansible.builtin.debug:
    msg: "{{ hv1.hypervisors[0].isos | map(attribute='path') }}"
"""

RETURN = r"""
hypervisors:
  description: The hypervisors that answered, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
      sample: hv1
    versions:
      description: Of libvirt, of its driver's hypervisor, and the driver's name.
      type: dict
      sample:
        libvirt: 9.0.0
        driver: QEMU
        hypervisor: 7.2.22
    cpu:
      description:
        - The host's processors. C(count) is their number, C(assigned) that of active machines' virtual processors,
          C(idle) the share of the processors' time that was not used during a quarter of a second, 0 to 1, or null
          where libvirt's driver does not tell.
      type: dict
      sample:
        arch: x86_64
        model: Skylake-Server-IBRS
        count: 16
        mhz: 2600
        numa_nodes: 1
        sockets: 1
        cores: 8
        threads: 2
        assigned: 12
        idle: 0.83
    memory:
      description: The host's memory in KiB, C(total), C(free), and C(cached), much of which is free if need be.
      type: dict
      sample:
        total: 32768000
        free: 8123456
        cached: 2204160
    guests:
      description: What virtual machines may be, one element for each kind and architecture.
      type: list
      elements: dict
      sample:
        - os_type: hvm
          arch: x86_64
          domain_types: [qemu, kvm]
          machines: [pc, pc-q35-7.2, q35]
    pools:
      description:
        - Storage pools by name, sizes in bytes. C(path) is null where a pool is no folder or device, C(state) one of
          V(running), V(inactive), V(building), V(degraded), V(inaccessible).
      type: list
      elements: dict
      sample:
        - name: drives
          type: dir
          path: /vm/drives
          state: running
          autostart: true
          capacity: 105089261568
          allocation: 41231187968
          available: 63858073600
    isos:
      description: Volumes of active pools whose name ends in C(.iso), by path. Size in bytes.
      type: list
      elements: dict
      sample:
        - pool: iso
          name: debian-12.iso
          path: /vm/iso/debian-12.iso
          size: 658505728
    networks:
      description:
        - Virtual networks by name. C(forward) is libvirt's forward mode, such as V(nat), V(route), V(bridge), or
          V(isolated).
      type: list
      elements: dict
      sample:
        - name: default
          active: true
          autostart: true
          forward: nat
silent:
  description: Hypervisors whose agents did not answer.
  returned: success
  type: list
  elements: dict
  contains:
    hypervisor:
      description: Name of the hypervisor.
      type: str
      sample: hv2
    reason:
      description: Why there was no answer.
      type: str
      sample: the agent of hv2 is offline; start archipel-agent there
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents, reasons_of
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import declaration
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError


def read(agents: Agents, hypervisor: str | None) -> dict[str, dict[str, t.Any] | ArchipelError]:
    """What each agent tells, or why it does not; raises the reason where the only hypervisor asked is silent."""
    if hypervisor is not None:
        agents.require(hypervisor)
    asked = agents.known if hypervisor is None else [hypervisor]
    answers = agents.declare(declaration.HYPERVISOR, {node: {} for node in asked})
    fault = answers.get(hypervisor or "")
    if isinstance(fault, ArchipelError):
        raise fault
    return answers


def shown(answer: dict[str, t.Any]) -> dict[str, t.Any]:
    """An answer under the names of the result."""
    return {"name": answer["hypervisor"], **{key: value for key, value in answer.items() if key != "hypervisor"}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**_connection.argument_spec(), "hypervisor": {"type": "str"}},
        supports_check_mode=True,
    )
    try:
        with Client(_connection.options(module.params)) as client:
            answers = read(Agents(client), module.params["hypervisor"])
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    silent = {node: answer for node, answer in answers.items() if isinstance(answer, ArchipelError)}
    for node in silent:
        module.warn(f"{node} did not answer; it is not in the result")
    module.exit_json(
        changed=False,
        hypervisors=[shown(answer) for node, answer in sorted(answers.items()) if node not in silent],
        silent=reasons_of(silent),
    )


if __name__ == "__main__":
    main()
