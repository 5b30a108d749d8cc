#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_permission
short_description: Declare who may do what
version_added: 1.0.0
description:
  - Makes roles, groups and grants true on the agents of all hypervisors, with one request to each.
  - Each agent makes all of it true, or nothing and says why.
  - An agent that is offline is reported as failed, and keeps its old grants until the next run.
  - Grants in the agents' configuration, by the role P(archipel.platform.archipel_agent#role), are not touched.
author:
  - Archipel maintainers (@archipel)
options:
  roles:
    description: Named sets of permissions.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role, in lower case.
        type: str
        required: true
      permissions:
        description: All permissions of the role. V(host_access) cannot be among them.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes the role, and the grants of it.
        type: str
        choices: [absent, present]
        default: present
  groups:
    description: Named sets of accounts. They are the agents' own, and not the XMPP server's shared roster groups.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group, in lower case.
        type: str
        required: true
      members:
        description: All members, as bare JIDs; without a domain, that of O(jid) is meant.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes the group, and the grants to it.
        type: str
        choices: [absent, present]
        default: present
  grants:
    description:
      - What is granted to whom, on which entities.
      - O(grants[].permissions) and O(grants[].roles) are all that the account or group has on these entities; what
        several elements state for the same one is added up.
    type: list
    elements: dict
    default: []
    suboptions:
      user:
        description:
          - A bare JID; without a domain, that of O(jid) is meant.
          - Either this or O(grants[].group) is needed.
        type: str
      group:
        description: Name of a group, of O(groups) or declared before.
        type: str
      entities:
        description:
          - V(all) is all hypervisors and all virtual machines, also those to come.
          - The name of a hypervisor is that hypervisor alone, and C(hv1/all) the hypervisor V(hv1) and all virtual
            machines on it, also those to come.
          - A name or UUID is a managed virtual machine, C(tag:web) those that have the tag V(web) when the task runs.
        type: list
        elements: str
        required: true
      permissions:
        description:
          - Names of permissions. V(all) is every permission but V(host_access).
          - V(host_access) makes its holder as good as root on the host; it can be granted to a user only.
        type: list
        elements: str
        default: []
      roles:
        description: Names of roles, of O(roles) or declared before.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) takes everything away that the account or group was granted on these entities.
        type: str
        choices: [absent, present]
        default: present
  purge:
    description:
      - The kinds of which nothing shall be there but what is declared.
      - With V(grants), also what others have granted meanwhile is taken away, as that who made a virtual machine has on
        it.
    type: list
    elements: str
    choices: [roles, groups, grants]
    default: []
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
notes:
  - Nobody grants what they do not have. The platform's automation account has V(all), and so cannot grant
    V(host_access); an administrator can.
  - Whoever may tag or rename a virtual machine decides whether a grant by tag or name counts on it at the next run.
seealso:
  - module: archipel.platform.archipel_user
"""

EXAMPLES = r"""
- name: Operators may use the web servers, and see them
  archipel.platform.archipel_permission:
    roles:
      - name: operator
        permissions: [presence, info, create, shutdown, destroy, suspend, resume]
    groups:
      - name: ops
        members: [alice, bob@example.org]
    grants:
      - group: ops
        entities: ["tag:web"]
        roles: [operator]
      - user: carol
        entities: [db1]
        permissions: [presence, info]

- name: Nothing is granted on any agent but this
  archipel.platform.archipel_permission:
    grants:
      - user: alice
        entities: [all]
        permissions: [all]
    purge: [roles, groups, grants]

- name: Bob may do nothing on db1 any more
  archipel.platform.archipel_permission:
    grants:
      - user: bob
        entities: [db1]
        state: absent
"""

RETURN = r"""
hypervisors:
  description: What became of the declaration on each hypervisor, by name.
  returned: always, once the agents were asked
  type: list
  elements: dict
  contains:
    hypervisor:
      description: Name of the hypervisor.
      type: str
      sample: hv1
    changed:
      description: Whether its agent's roles, groups or grants changed, or in check mode would.
      type: bool
      sample: true
    error:
      description: Why nothing changed there; not there if it did not fail.
      type: str
      sample: the agent of hv2 is offline; start archipel-agent there
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils._errors import InvalidSpec
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import (
    grants as wire,
    jids,
    namespaces as ns,
    permissions as names,
)
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.grants import Declaration

Params = t.Mapping[str, t.Any]
Answers = t.Mapping[str, t.Union[t.Dict[str, t.Any], ArchipelError]]


def account(name: str, domain: str, option: str, problems: list[str]) -> str:
    """The bare JID of an account that was given with or without a domain."""
    jid = jids.bare(name if "@" in name else f"{name}@{domain}")
    if not jids.is_account(jid):
        problems.append(f"{option}: '{name}' is neither a localpart nor the JID of an account")
    return jid


def check_names(permissions: t.Iterable[str], option: str, problems: list[str]) -> None:
    """Adds a problem for each permission that there is not."""
    unknown = sorted(set(permissions) - names.NAMES)
    problems.extend(f"{option}: there is no permission '{name}'" for name in unknown)


def named(params: Params, key: str, values: str, problems: list[str]) -> dict[str, list[str] | None]:
    """Roles or groups by name; None: absent."""
    found: dict[str, list[str] | None] = {}
    for index, one in enumerate(params[key]):
        if one["name"] in found:
            problems.append("{}[{}].name: '{}' is declared twice".format(key, index, one["name"]))
        if one["state"] == "absent" and one[values]:
            problems.append("{}[{}].{}: nothing can be stated of what is absent".format(key, index, values))
        found[one["name"]] = None if one["state"] == "absent" else sorted(set(one[values]))
    return found


def declaration(params: Params) -> Declaration:
    """What is sent to each agent; raises InvalidSpec."""
    problems: list[str] = []
    domain = jids.domain(params["jid"])
    roles = named(params, "roles", "permissions", problems)
    for name, permissions in roles.items():
        check_names(permissions or (), f"roles: {name}", problems)
    groups = named(params, "groups", "members", problems)
    for name, members in groups.items():
        if members is not None:
            groups[name] = sorted({account(one, domain, f"groups: {name}", problems) for one in members})
    rows = [row(one, domain, f"grants[{index}]", problems) for index, one in enumerate(params["grants"])]
    if problems:
        raise InvalidSpec(problems)
    return Declaration(roles=roles, groups=groups, grants=rows, purge=sorted(set(params["purge"])))


def row(grant: Params, domain: str, option: str, problems: list[str]) -> wire.Row:
    """One element of ``grants`` for the wire."""
    if (grant["user"] is None) == (grant["group"] is None):
        problems.append(f"{option}: give either user or group")
    check_names(grant["permissions"], f"{option}.permissions", problems)
    granted = [*grant["permissions"], *(wire.ROLE + name for name in grant["roles"])]
    if not grant["entities"]:
        problems.append(f"{option}.entities: empty")
    if grant["state"] == "absent" and granted:
        problems.append(f"{option}: with state absent everything goes, so give neither permissions nor roles")
    if grant["state"] == "present" and not granted:
        problems.append(f"{option}: give permissions or roles, or state absent")
    if grant["user"] is not None:
        subject = account(grant["user"], domain, f"{option}.user", problems)
    else:
        subject = "{}{}".format(wire.GROUP, grant["group"])
    return wire.Row(subject=subject, entities=sorted(set(grant["entities"])), names=sorted(set(granted)))


def failures(answers: Answers) -> list[str]:
    """Why it failed, each reason once with the hypervisors where it did."""
    where: dict[str, list[str]] = {}
    for node, answer in sorted(answers.items()):
        if isinstance(answer, ArchipelError):
            where.setdefault(answer.message, []).append(node)
    found = ["{}: {}".format(", ".join(nodes), message) for message, nodes in where.items()]
    heard = [answer["unknown"] for answer in answers.values() if not isinstance(answer, ArchipelError)]
    nowhere = sorted(set(heard[0]).intersection(*heard)) if heard else []
    among = " on a hypervisor that answered" if where else ""
    found.extend(
        f"entities: there is no hypervisor or managed virtual machine '{selector}'{among}"
        for selector in nowhere
        if not selector.startswith(wire.TAG)
    )
    return found


def result(answers: Answers) -> dict[str, t.Any]:
    """What the module returns, the failures aside."""
    told: list[dict[str, t.Any]] = []
    diff: dict[str, dict[str, t.Any]] = {"before": {}, "after": {}}
    for node, answer in sorted(answers.items()):
        if isinstance(answer, ArchipelError):
            told.append({"hypervisor": node, "changed": False, "error": answer.message})
            continue
        changed = answer["before"] != answer["after"]
        told.append({"hypervisor": node, "changed": changed})
        if changed:
            diff["before"][node], diff["after"][node] = answer["before"], answer["after"]
    return {"changed": any(one["changed"] for one in told), "hypervisors": told, "diff": diff}


def main() -> None:
    state = {"type": "str", "choices": ["absent", "present"], "default": "present"}
    words = {"type": "list", "elements": "str", "default": []}
    name = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "roles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": name, "permissions": words, "state": state},
            },
            "groups": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": name, "members": words, "state": state},
            },
            "grants": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "user": {"type": "str"},
                    "group": {"type": "str"},
                    "entities": {"type": "list", "elements": "str", "required": True},
                    "permissions": words,
                    "roles": words,
                    "state": state,
                },
            },
            "purge": {"type": "list", "elements": "str", "choices": ["roles", "groups", "grants"], "default": []},
        },
        supports_check_mode=True,
    )
    action = wire.PLAN if module.check_mode else wire.APPLY
    try:
        request = declaration(module.params)
        with Client(_connection.options(module.params)) as client:
            agents = Agents(client)
            answers = agents.declare(action, dict.fromkeys(agents.known, request), namespace=ns.GRANTS)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    told = result(answers)
    failed = failures(answers)
    if failed:
        module.fail_json(msg="; ".join(failed), **told)
    module.exit_json(**told)


if __name__ == "__main__":
    main()
