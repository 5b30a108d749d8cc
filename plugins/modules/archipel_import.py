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
  - With O(offline), or with O(upgrade_from), the module works on the databases of an agent that does not run. It then
    has to run on the hypervisor itself, as root, and needs no account. It refuses while the agent runs. Accounts are
    made, given their passwords, or removed, by the agent's next start.
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
    description: All domains, of O(hypervisor), of O(hypervisors), or of all hypervisors.
    type: bool
    default: false
  hypervisor:
    description: Where the domains are. If not given, they are found.
    type: str
  hypervisors:
    description: As O(hypervisor), several - each domain is on one of these.
    type: list
    elements: str
  state:
    description:
      - V(managed) domains are virtual machines of the platform.
      - V(unmanaged) domains are known to libvirt alone. Their XMPP accounts are removed. So is that of a virtual
        machine whose domain is gone, because somebody undefined it with other tools. What does not exist is not
        managed.
    type: str
    choices:
      - managed
      - unmanaged
    default: managed
  offline:
    description: Work on the hypervisor that the module runs on, whose agent is stopped.
    type: bool
    default: false
  upgrade_from:
    description:
      - Folder that was C(archipel_folder_lib) of Archipel 0.6 on this hypervisor, as root can read it. Its
        C(hypervisor.sqlite3) and C(permissions.sqlite3) are read, and left as they are.
      - All virtual machines in there come under management with their JIDs. The password of each is replaced at its
        first login, and leaves the description of its domain, whose other text stays.
      - What was granted is kept where this release has the permission, and told in RV(denied) where not.
      - Each virtual machine, and the hypervisor with its grants, is taken over once. One that was released or has moved
        since is not taken over again.
      - Implies O(offline).
    type: path
  upgrade_machines_folder:
    description: Folder that was C(vm_perm_path), or C(vm_base_path) where that was not set. It has a folder for each
      virtual machine, with a C(permissions.sqlite3).
    type: path
    default: /vm/drives
  upgrade_change_domain:
    description:
      - The virtual machines in O(upgrade_from), and the users of their XMPP domain that were granted something there,
        move to the XMPP domain that this hypervisor has now.
      - Without it, another XMPP domain is an error.
    type: bool
    default: false
  jid:
    description:
      - The account to log in as, C(user@domain). The domain is the platform's XMPP domain.
      - If not set, the environment variable E(ARCHIPEL_JID) is used.
      - Required, unless the module works offline.
    required: false
  password:
    description:
      - The account's password. It is proven by SCRAM over TLS and never sent.
      - If not set, the environment variable E(ARCHIPEL_PASSWORD) is used.
      - Required, unless the module works offline.
    required: false
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

- name: The agent does not run, and manages all domains from its next start on
  archipel.platform.archipel_import:
    all: true
    offline: true
  become: true
  delegate_to: hv1

- name: The virtual machines of Archipel 0.6 are taken over
  archipel.platform.archipel_import:
    upgrade_from: /var/lib/archipel-0.6
    upgrade_change_domain: true
  become: true
  delegate_to: hv1
"""

RETURN = r"""
imported:
  description:
    - The domains that were brought under management, or in check mode would be.
    - Where some hypervisors have failed, those of the others.
  returned: success, and where a hypervisor has failed
  type: list
  elements: dict
  sample:
    - name: legacy
      uuid: 6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c11
      jid: 6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c11@example.com/hv1
      hypervisor: hv1
released:
  description: The domains that were released from management, or in check mode would be, in the same form.
  returned: success, and where a hypervisor has failed
  type: list
  elements: dict
  sample: []
cleaned:
  description: Names of the domains whose description had a password of Archipel 0.6, and has it no more.
  returned: with O(upgrade_from)
  type: list
  elements: str
  sample:
    - legacy
granted:
  description: What was granted in Archipel 0.6 and is kept.
  returned: with O(upgrade_from)
  type: list
  elements: dict
  sample:
    - entity: 6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c11@example.com
      user: ann@example.com
      permission: create
denied:
  description: What was granted in Archipel 0.6 and is not kept, with the reason.
  returned: with O(upgrade_from)
  type: list
  elements: dict
  sample:
    - entity: 6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c11@example.com
      user: ann@example.com
      permission: vnc_display
      reason: no such permission
"""

import json
import os
import typing as t
from xml.etree import ElementTree as ET

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _arguments, _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents, chosen
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import (
    jids,
    namespaces as ns,
    payloads,
)
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.declaration import Facts
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

# Where the role archipel_agent installs it.
AGENT = "/usr/bin/archipel-agent"
ACTIONS = {"managed": "manage", "unmanaged": "unmanage"}


def change(agents: Agents, vms: t.Sequence[Facts], state: str) -> dict[str, ArchipelError]:
    """Has each hypervisor manage, or unmanage, those of ``vms`` that are on it; the errors of those that have not."""
    requests: dict[str, ET.Element] = {}
    for vm in vms:
        query = requests.setdefault(vm["hypervisor"], payloads.request(ns.HYPERVISOR_CONTROL, ACTIONS[state]))
        item = ET.SubElement(query[0], f"{{{ns.HYPERVISOR_CONTROL}}}item")
        item.set("jid", jids.vm_jid(vm["uuid"], agents.domain))
    return {node: answer for node, answer in agents.ask(requests).items() if isinstance(answer, ArchipelError)}


def online(module: AnsibleModule, names: list[str], uuids: list[str]) -> tuple[dict[str, t.Any], str]:
    """Has the agents do it; the result, without ``changed`` and ``diff``, and what has failed. Raises ArchipelError."""
    params = module.params
    managed = params["state"] == "managed"
    failed: dict[str, ArchipelError] = {}
    with Client(_connection.options(params)) as client:
        agents = Agents(client)
        asked = params["hypervisors"] if params["hypervisor"] is None else [params["hypervisor"]]
        for node in asked or ():
            agents.require(node, "hypervisors" if params["hypervisor"] is None else "hypervisor")
        inventory = agents.inventory(names if not params["all"] else None, uuids or None, hypervisors=asked)
        if not managed:
            # Their domains are gone, not their accounts.
            inventory = inventory._replace(vms=[*inventory.vms, *inventory.undefined])
        vms = [vm for vm in chosen(inventory, names, uuids, required=managed) if vm["managed"] != managed]
        if not module.check_mode:
            failed = change(agents, vms, params["state"])
    shown = [
        {
            "name": vm["name"],
            "uuid": vm["uuid"],
            "jid": jids.vm_jid(vm["uuid"], agents.domain, vm["hypervisor"]),
            "hypervisor": vm["hypervisor"],
        }
        for vm in vms
        if vm["hypervisor"] not in failed
    ]
    errors = "; ".join(error.message for dummy, error in sorted(failed.items()))
    return {"imported": shown if managed else [], "released": [] if managed else shown}, errors


def offline(module: AnsibleModule, names: list[str], uuids: list[str]) -> dict[str, t.Any]:
    """Has the agent's program do it on this host; the result, without ``changed`` and ``diff``."""
    params = module.params
    if not os.access(AGENT, os.X_OK):
        module.fail_json(msg=f"offline: there is no {AGENT} on this host; run the module on a hypervisor")
    request = {
        "managed": params["state"] == "managed",
        "names": names,
        "uuids": uuids,
        "upgrade": params["upgrade_from"] or "",
        "machines": params["upgrade_machines_folder"],
        "change_domain": params["upgrade_change_domain"],
        "check": module.check_mode,
    }
    code, answer, fault = module.run_command([AGENT, "import"], data=json.dumps(request))
    if code != 0:
        module.fail_json(msg=fault.strip() or f"{AGENT} import ended with code {code}")
    return json.loads(answer)


def differences(result: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Before and after of what was changed, by the domain's name or by who was granted something on what."""
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for key, new in (("imported", "managed"), ("released", "unmanaged")):
        before.update({vm["name"]: "unmanaged" if new == "managed" else "managed" for vm in result[key]})
        after.update({vm["name"]: new for vm in result[key]})
    for name in result.get("cleaned", ()):
        before[f"{name}: description"] = "has the password of Archipel 0.6"
        after[f"{name}: description"] = "has no password"
    for grant in result.get("granted", ()):
        after.setdefault("{entity}: {user}".format(**grant), []).append(grant["permission"])
    if result.get("taken"):
        before["taken over from Archipel 0.6"] = []
        after["taken over from Archipel 0.6"] = result["taken"]
    return {"before": before, "after": after}


def problem(params: t.Mapping[str, t.Any]) -> str | None:
    """What is wrong with a combination of options."""
    selected = [name for name in ("name", "uuid", "names") if params[name] is not None]
    if params["all"] and selected:
        return "all: cannot be combined with name, uuid or names"
    if params["upgrade_from"] is not None:
        if params["all"] or selected or params["state"] != "managed":
            return "upgrade_from: cannot be combined with name, uuid, names, all or state=unmanaged"
    elif not (params["all"] or selected and params[selected[0]] != []):
        return "give name, uuid, names or all, to say which domains are meant"
    for option in ("hypervisor", "hypervisors"):
        if (params["offline"] or params["upgrade_from"] is not None) and params[option] is not None:
            return f"{option}: cannot be combined with offline or upgrade_from, which work where the module runs"
    if params["hypervisors"] == []:
        return "hypervisors: is empty; name at least one, or leave it out"
    return None


def main() -> None:
    connection = _connection.argument_spec()
    for name in ("jid", "password"):
        connection[name]["required"] = False
    module = AnsibleModule(
        argument_spec={
            **connection,
            "name": {"type": "str"},
            "uuid": {"type": "str"},
            "names": {"type": "list", "elements": "str"},
            "all": {"type": "bool", "default": False},
            "hypervisor": {"type": "str"},
            "hypervisors": {"type": "list", "elements": "str"},
            "state": {"type": "str", "choices": sorted(ACTIONS), "default": "managed"},
            "offline": {"type": "bool", "default": False},
            "upgrade_from": {"type": "path"},
            "upgrade_machines_folder": {"type": "path", "default": "/vm/drives"},
            "upgrade_change_domain": {"type": "bool", "default": False},
        },
        mutually_exclusive=[["name", "uuid", "names"], ["hypervisor", "hypervisors"]],
        supports_check_mode=True,
    )
    params = module.params
    for option in ("names", "hypervisors"):
        params[option] = None if params[option] is None else _arguments.words(params[option])
    wrong = problem(params)
    if wrong is not None:
        module.fail_json(msg=wrong)
    names = [params["name"]] if params["name"] is not None else list(params["names"] or [])
    uuids = [params["uuid"].lower()] if params["uuid"] is not None else []
    errors = ""
    if params["offline"] or params["upgrade_from"] is not None:
        result = offline(module, names, uuids)
    else:
        missing = [name for name in ("jid", "password") if params[name] is None]
        if missing:
            module.fail_json(msg="missing required arguments: {}".format(", ".join(missing)))
        try:
            result, errors = online(module, names, uuids)
        except ArchipelError as exc:
            module.fail_json(msg=exc.message)
    diff = differences(result)
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    result.pop("taken", None)
    if errors:
        module.fail_json(msg=errors, changed=bool(diff["after"]), diff=diff, **result)
    module.exit_json(changed=bool(diff["after"]), diff=diff, **result)


if __name__ == "__main__":
    main()
