#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_tag
short_description: Declare the tags of virtual machines
version_added: 1.0.0
description:
  - Makes sure that virtual machines have tags, do not have them, or have exactly these.
  - Tags are kept in the definition, so they move with the virtual machine. A running one has them at once.
  - Many virtual machines on many hypervisors take one login and two rounds of requests.
  - The permissions V(declaration_inventory) on the hypervisors and V(settags) on the virtual machines are needed.
author:
  - Archipel maintainers (@archipel)
options:
  names:
    description: Names of the virtual machines.
    type: list
    elements: str
  uuids:
    description: UUIDs of virtual machines, besides those of O(names).
    type: list
    elements: str
  all:
    description: All virtual machines, of O(hypervisor) or of all hypervisors. What is not managed is left alone.
    type: bool
    default: false
  hypervisor:
    description: Where the virtual machines are. If not given, they are found.
    type: str
  tags:
    description:
      - The tags. A tag has at most 64 characters and no C(;).
      - An empty list is of use with O(state=exact) only, and removes all.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) adds those that are missing.
      - V(absent) removes those that are there.
      - V(exact) makes them all the tags that there are.
    type: str
    choices:
      - present
      - absent
      - exact
    default: present
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
seealso:
  - module: archipel.platform.archipel_vm
  - plugin: archipel.platform.archipel
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Two web servers are tagged, besides other tags that they have
  archipel.platform.archipel_tag:
    names:
      - web1
      - web2
    tags:
      - web
      - production

- name: Nothing on hv3 is for production any more
  archipel.platform.archipel_tag:
    all: true
    hypervisor: hv3
    tags:
      - production
    state: absent

- name: It has this tag and no other
  archipel.platform.archipel_tag:
    names:
      - build
    tags:
      - ci
    state: exact
"""

RETURN = r"""
vms:
  description: The virtual machines that were meant, by name, with the tags that they have, or in check mode would have.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1
      uuid: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a
      hypervisor: hv1
      tags:
        - production
        - web
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents, chosen
from ansible_collections.archipel.platform.plugins.module_utils._client import Client, Request
from ansible_collections.archipel.platform.plugins.module_utils._errors import Conflict
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import (
    jids,
    namespaces as ns,
    payloads,
    tags as words,
)
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.declaration import Facts
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError


def wanted(now: t.Collection[str], tags: t.Collection[str], state: str) -> list[str]:
    """The tags that a machine with the tags ``now`` is to have."""
    if state == "exact":
        return sorted(set(tags))
    return sorted(set(now).union(tags) if state == "present" else set(now).difference(tags))


def meant(agents: Agents, params: t.Mapping[str, t.Any]) -> list[Facts]:
    """The managed machines that the options mean; raises Conflict where one of them is not managed."""
    names, uuids = params["names"] or [], [uuid.lower() for uuid in params["uuids"] or []]
    asked = None if params["hypervisor"] is None else [params["hypervisor"]]
    stated = not params["all"]
    inventory = agents.inventory(names if stated else None, uuids if stated else None, hypervisors=asked)
    vms = chosen(inventory, names, uuids)
    for vm in vms if stated else []:
        if not vm["managed"]:
            raise Conflict(
                "'{}' on {} is not managed; archipel_import brings it under management".format(
                    vm["name"], vm["hypervisor"]
                )
            )
    return sorted((vm for vm in vms if vm["managed"]), key=lambda vm: (vm["name"], vm["hypervisor"]))


def change(client: Client, changes: t.Sequence[tuple[Facts, list[str]]]) -> list[str]:
    """Gives each machine its tags, all at once; a sentence for each that has not got them."""
    requests = [
        Request(
            jids.vm_jid(vm["uuid"], client.domain, vm["hypervisor"]),
            payloads.request(ns.TAGS, "settags", {"tags": words.join(tags)}),
        )
        for vm, tags in changes
    ]
    return [
        "{} on {}: {}".format(vm["name"], vm["hypervisor"], answer.message)
        for (vm, dummy), answer in zip(changes, client.gather(requests))
        if isinstance(answer, ArchipelError)
    ]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "names": {"type": "list", "elements": "str"},
            "uuids": {"type": "list", "elements": "str"},
            "all": {"type": "bool", "default": False},
            "hypervisor": {"type": "str"},
            "tags": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent", "exact"], "default": "present"},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["all"] and (params["names"] or params["uuids"]):
        module.fail_json(msg="all: cannot be combined with names or uuids")
    if not (params["all"] or params["names"] or params["uuids"]):
        module.fail_json(msg="give names, uuids or all, to say which virtual machines are meant")
    problems = words.problems(params["tags"])
    if problems:
        module.fail_json(msg="tags: " + "; ".join(problems))
    try:
        with Client(_connection.options(params)) as client:
            agents = Agents(client)
            if params["hypervisor"] is not None:
                agents.require(params["hypervisor"])
            vms = meant(agents, params)
            plan = [(vm, wanted(vm.get("tags", []), params["tags"], params["state"])) for vm in vms]
            changes = [(vm, tags) for vm, tags in plan if tags != vm.get("tags", [])]
            failures = [] if module.check_mode else change(client, changes)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    result = {
        "changed": bool(changes),
        "vms": [
            {"name": vm["name"], "uuid": vm["uuid"], "hypervisor": vm["hypervisor"], "tags": tags} for vm, tags in plan
        ],
        "diff": {
            "before": {vm["name"]: vm.get("tags", []) for vm, dummy in changes},
            "after": {vm["name"]: tags for vm, tags in changes},
        },
    }
    if failures:
        result.update(changed=len(failures) < len(changes))
        module.fail_json(msg="; ".join(failures), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
