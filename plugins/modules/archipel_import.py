#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_import
short_description: Bring existing domains under management
version_added: 1.0.0
description:
  - A domain that libvirt has becomes a virtual machine of the platform, with an XMPP account of its own, or ceases to
    be one.
  - The domain itself is left as it is, and goes on running.
author:
  - Archipel maintainers (@archipel)
options:
  name:
    description: Name of the domain.
    type: str
  uuid:
    description: UUID of the domain.
    type: str
  names:
    description: Names of several domains.
    type: list
    elements: str
  all:
    description: All domains, of O(hypervisor) or of all hypervisors.
    type: bool
    default: false
  hypervisor:
    description: Where the domains are. If not given, they are found.
    type: str
  state:
    description:
      - V(managed) domains are virtual machines of the platform.
      - V(unmanaged) domains are known to libvirt alone. Their XMPP accounts are removed.
    type: str
    choices:
      - managed
      - unmanaged
    default: managed
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
seealso:
  - module: archipel.platform.archipel_vm
  - module: archipel.platform.archipel_vm_info
"""

EXAMPLES = r"""
- name: A domain that was made with virsh is managed from now on
  archipel.platform.archipel_import:
    name: legacy
    hypervisor: hv1

- name: So is everything else
  archipel.platform.archipel_import:
    all: true

- name: One is left to libvirt again
  archipel.platform.archipel_import:
    name: legacy
    state: unmanaged
"""

RETURN = r"""
imported:
  description: The domains that were brought under management, or in check mode would be.
  returned: success
  type: list
  elements: dict
  sample:
    - name: legacy
      uuid: 6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c11
      jid: 6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c11@example.com/hv1
      hypervisor: hv1
released:
  description: The domains that were released from management, or in check mode would be, in the same form.
  returned: success
  type: list
  elements: dict
  sample: []
"""

import typing as t
from xml.etree import ElementTree as ET

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents, chosen
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import (
    jids,
    namespaces as ns,
    payloads,
)
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.declaration import Facts
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

ACTIONS = {"managed": "manage", "unmanaged": "unmanage"}


def change(agents: Agents, vms: t.Sequence[Facts], state: str) -> None:
    """Has each hypervisor manage, or unmanage, those of ``vms`` that are on it; raises the first error."""
    requests: dict[str, ET.Element] = {}
    for vm in vms:
        query = requests.setdefault(vm["hypervisor"], payloads.request(ns.HYPERVISOR_CONTROL, ACTIONS[state]))
        item = ET.SubElement(query[0], f"{{{ns.HYPERVISOR_CONTROL}}}item")
        item.set("jid", jids.vm_jid(vm["uuid"], agents.domain))
    for answer in agents.ask(requests).values():
        if isinstance(answer, ArchipelError):
            raise answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "name": {"type": "str"},
            "uuid": {"type": "str"},
            "names": {"type": "list", "elements": "str"},
            "all": {"type": "bool", "default": False},
            "hypervisor": {"type": "str"},
            "state": {"type": "str", "choices": sorted(ACTIONS), "default": "managed"},
        },
        mutually_exclusive=[["name", "uuid", "names"]],
        supports_check_mode=True,
    )
    params = module.params
    names = [params["name"]] if params["name"] is not None else list(params["names"] or [])
    uuids = [params["uuid"].lower()] if params["uuid"] is not None else []
    managed = params["state"] == "managed"
    if params["all"] and (names or uuids):
        module.fail_json(msg="all: cannot be combined with name, uuid or names")
    if not (params["all"] or names or uuids):
        module.fail_json(msg="give name, uuid, names or all, to say which domains are meant")
    try:
        with Client(_connection.options(params)) as client:
            agents = Agents(client)
            if params["hypervisor"] is not None:
                agents.require(params["hypervisor"])
            asked = None if params["hypervisor"] is None else [params["hypervisor"]]
            inventory = agents.inventory(names if not params["all"] else None, uuids or None, hypervisors=asked)
            vms = [vm for vm in chosen(inventory, names, uuids) if vm["managed"] != managed]
            if not module.check_mode:
                change(agents, vms, params["state"])
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    shown = [
        {
            "name": vm["name"],
            "uuid": vm["uuid"],
            "jid": jids.vm_jid(vm["uuid"], agents.domain, vm["hypervisor"]),
            "hypervisor": vm["hypervisor"],
        }
        for vm in vms
    ]
    module.exit_json(
        changed=bool(vms),
        imported=shown if managed else [],
        released=[] if managed else shown,
        diff={
            "before": {vm["name"]: "unmanaged" if managed else "managed" for vm in vms},
            "after": {vm["name"]: params["state"] for vm in vms},
        },
    )


if __name__ == "__main__":
    main()
