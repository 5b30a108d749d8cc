#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_vm_info
short_description: Read virtual machines
version_added: 1.0.0
description:
  - Returns the virtual machines of all hypervisors, or some of them, also domains of libvirt that are not managed.
  - It changes nothing.
author:
  - Archipel maintainers (@archipel)
options:
  names:
    description:
      - Return virtual machines with these names.
      - With O(uuids), those that have one of the names or one of the UUIDs. Without both, all.
    type: list
    elements: str
  uuids:
    description: Return virtual machines with these UUIDs.
    type: list
    elements: str
  hypervisor:
    description: Return virtual machines of this hypervisor. If not given, of all.
    type: str
  details:
    description: Return definitions too, in the terms of the options of M(archipel.platform.archipel_vm).
    type: bool
    default: false
  addresses:
    description:
      - Return addresses too, as these know them. V(agent) is the guest agent of a virtual machine that runs, V(lease) a
        DHCP server of libvirt.
      - What a guest agent tells is the guest's word. One that does not answer in 2 seconds is left out.
    type: list
    elements: str
    choices:
      - agent
      - lease
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.reading
seealso:
  - module: archipel.platform.archipel_vm
"""

EXAMPLES = r"""
- name: Read all virtual machines
  archipel.platform.archipel_vm_info:
  register: platform

- name: Name those that run
  ansible.builtin.debug:
    msg: "{{ platform.vms | selectattr('state', 'eq', 'running') | map(attribute='name') }}"

- name: Read one, with its definition
  archipel.platform.archipel_vm_info:
    names:
      - web
    details: true

- name: Read the addresses that it has
  archipel.platform.archipel_vm_info:
    names:
      - web
    addresses:
      - agent
      - lease
"""

RETURN = r"""
vms:
  description: The virtual machines, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
      sample: web
    uuid:
      description: UUID.
      type: str
      sample: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a
    jid:
      description: The XMPP address that the virtual machine has, or would have if it were managed.
      type: str
      sample: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a@example.com/hv1
    hypervisor:
      description: Where it is.
      type: str
      sample: hv1
    state:
      description: Its state, such as V(running), V(stopped), V(paused), V(crashed).
      type: str
      sample: running
    managed:
      description: Whether it is an entity of the platform.
      type: bool
      sample: true
    persistent:
      description: Whether libvirt keeps its definition while it is off.
      type: bool
      sample: true
    autostart:
      description: Whether it starts with its hypervisor.
      type: bool
      sample: true
    memory:
      description: Size of the memory in KiB.
      type: int
      sample: 2097152
    vcpus:
      description: Number of virtual processors.
      type: int
      sample: 2
    tags:
      description: Tags, sorted.
      type: list
      elements: str
      sample:
        - production
        - web
    addresses:
      description: Addresses that others can reach it at, without those that count inside the guest only.
      returned: if O(addresses) names a source
      type: list
      elements: dict
      contains:
        address:
          description: IPv4 or IPv6 address.
          type: str
          sample: 192.0.2.7
        prefix:
          description: Length of the network's prefix, where it is known.
          type: int
          sample: 24
        mac:
          description: Hardware address of the interface, empty if the guest agent does not tell it.
          type: str
          sample: "52:54:00:6b:3c:58"
        interface:
          description: Name of the interface in the guest, where the guest agent tells it.
          type: str
          sample: eth0
        source:
          description: Who knows the address, V(agent) or V(lease).
          type: str
          sample: agent
    definition:
      description: The definition in the terms of the options of M(archipel.platform.archipel_vm), without secrets.
      returned: if O(details=true)
      type: dict
      sample:
        memory: 2GiB
        vcpus: 2
silent:
  description: Hypervisors whose agents did not answer. What is on them is not in RV(vms).
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
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents, Inventory, reasons_of
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import declaration
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError


def read(agents: Agents, params: t.Mapping[str, t.Any]) -> Inventory:
    """What the agents tell; raises the reason where the only hypervisor asked is silent."""
    hypervisor = params["hypervisor"]
    if hypervisor is not None:
        agents.require(hypervisor)
    asked = None if hypervisor is None else [hypervisor]
    inventory = agents.inventory(params["names"], params["uuids"], params["details"], asked, params["addresses"] or [])
    if hypervisor in inventory.silent:
        raise inventory.silent[hypervisor]
    return inventory


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "names": {"type": "list", "elements": "str"},
            "uuids": {"type": "list", "elements": "str"},
            "hypervisor": {"type": "str"},
            "details": {"type": "bool", "default": False},
            "addresses": {"type": "list", "elements": "str", "choices": list(declaration.ADDRESS_SOURCES)},
        },
        supports_check_mode=True,
    )
    try:
        with Client(_connection.options(module.params)) as client:
            inventory = read(Agents(client), module.params)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    for node in inventory.silent:
        module.warn(f"{node} did not answer; what is on it is not in the result")
    module.exit_json(
        changed=False,
        vms=sorted(inventory.vms, key=lambda vm: (vm["name"], vm["hypervisor"])),
        silent=reasons_of(inventory.silent),
    )


if __name__ == "__main__":
    main()
