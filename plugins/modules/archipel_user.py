#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_user
short_description: Manage XMPP accounts and shared roster groups
version_added: 1.0.0
description:
  - Makes an account (O(name)) or a shared roster group (O(group)) of ejabberd present or absent.
  - Works with ejabberd 23.01 to 24.12, its module C(mod_admin_extra), and an account that its C(api_permissions) permit
    the commands of accounts and C(srg_*).
  - No password is ever shown in a result, a diff or an error.
author:
  - Archipel maintainers (@archipel)
options:
  name:
    description: Localpart or bare JID of an account. The domain of a localpart is that of O(jid).
    type: str
  group:
    description:
      - Name of a shared roster group in the domain of O(jid).
      - In lower case, without spaces and any of C("&'/:<>@), as ejabberd 24.12 wants it.
    type: str
  state:
    description:
      - Whether the account or the group is there.
      - An account that goes leaves all groups of its domain, because ejabberd would give them to the next one of that
        name.
    type: str
    choices:
      - absent
      - present
    default: present
  user_password:
    description: The password that the account of O(name) shall have. Needed to make an account.
    type: str
  update_password:
    description: With V(always), the account gets O(user_password) whenever it has another one. With V(on_create), only
      when it is made.
    type: str
    choices:
      - on_create
      - always
    default: always
  groups:
    description:
      - Names of the groups that the account of O(name) is in, exactly these.
      - If not given, they stay as they are.
    type: list
    elements: str
  label:
    description: What rosters show as the name of O(group). A new group's is its name, unless given.
    type: str
  description:
    description: Description of O(group).
    type: str
  displayed:
    description:
      - Names of the groups that the members of O(group) see in their rosters, exactly these.
      - A group may display itself; any other must be there.
      - A new group displays none, unless given.
    type: list
    elements: str
  members:
    description:
      - Localparts or bare JIDs of the members of O(group), exactly these.
      - If not given, they stay as they are.
    type: list
    elements: str
  append:
    description: Whether O(groups) and O(members) are only added to what is there.
    type: bool
    default: false
  api:
    description:
      - The way to ejabberd's API.
      - V(https) is its HTTP API, at O(server).
      - V(xmlrpc) is XML-RPC on C(127.0.0.1) of the host that the task runs on, without TLS. O(server) and O(ca_file)
        are not used then.
    type: str
    choices:
      - https
      - xmlrpc
    default: https
  api_port:
    description: Port of the API. If not given, 5443 for V(api=https), 4560 for V(api=xmlrpc).
    type: int
  jid:
    description:
      - An administrator's account, C(user@domain).
      - If not set, the environment variable E(ARCHIPEL_JID) is used.
    type: str
    required: true
  password:
    description:
      - The password of O(jid). Unlike the other modules, this one sends it, over TLS to the verified server or on the
        server itself.
      - If not set, the environment variable E(ARCHIPEL_PASSWORD) is used.
    type: str
    required: true
  port:
    description:
      - Not used by this module, see O(api_port).
      - If not set, the environment variable E(ARCHIPEL_PORT) is used.
    type: int
    default: 5222
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
notes:
  - This module does not need C(slixmpp).
"""

EXAMPLES = r"""
- name: An account that sees the hypervisors, with a first password that its owner may change
  archipel.platform.archipel_user:
    jid: admin@example.org
    password: "{{ admin_password }}"
    ca_file: /etc/archipel/ca.pem
    name: alice
    user_password: "{{ alice_password }}"
    update_password: on_create
    groups:
      - automation

- name: A group whose members see each other
  archipel.platform.archipel_user:
    group: operators
    label: Operators
    displayed:
      - operators
    members:
      - alice
      - bob@example.org

- name: One more member, on the XMPP server itself
  archipel.platform.archipel_user:
    api: xmlrpc
    group: operators
    members:
      - carol
    append: true
  delegate_to: xmpp.example.org

- name: The account goes
  archipel.platform.archipel_user:
    name: alice
    state: absent
"""

RETURN = r"""
user:
  description: The account, as it is or in check mode would be.
  returned: success, with O(name)
  type: dict
  contains:
    jid:
      description: Its bare JID.
      type: str
      sample: alice@example.org
    state:
      description: Whether it is there.
      type: str
      sample: present
    groups:
      description: The groups that it is in. Only with O(groups), for an account that is there.
      type: list
      elements: str
      sample:
        - automation
group:
  description: The group, as it is or in check mode would be. Without its options if it is absent.
  returned: success, with O(group)
  type: dict
  contains:
    group:
      description: Its name.
      type: str
      sample: operators
    state:
      description: Whether it is there.
      type: str
      sample: present
    label:
      description: What rosters show as its name.
      type: str
      sample: Operators
    description:
      description: Its description.
      type: str
      sample: Who is on duty
    displayed:
      description: The groups that its members see.
      type: list
      elements: str
      sample:
        - operators
    members:
      description: The bare JIDs of its members.
      type: list
      elements: str
      sample:
        - alice@example.org
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._ejabberd_api import PORTS, Api, Group
from ansible_collections.archipel.platform.plugins.module_utils._errors import Conflict, InvalidSpec
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

# What RFC 6122's nodeprep refuses in a localpart; ejabberd 24.12 wants the names of groups so too.
LOCALPART = re.compile(r"""[^\s"&'/:<>@]+\Z""")

Params = t.Mapping[str, t.Any]
Names = t.Tuple[str, ...]


class Account(t.NamedTuple):
    """An account, there or not, and the groups that name it. ``password_differs``: from the declared one."""

    present: bool
    groups: Names = ()
    password_differs: bool = False


class Plan(t.NamedTuple):
    """What is to be done with an account or a group; ``write`` holds a group's new options."""

    create: bool = False
    delete: bool = False
    password: bool = False
    write: Group | None = None
    add: Names = ()
    remove: Names = ()

    @property
    def changed(self) -> bool:
        return self != Plan()


class Result(t.NamedTuple):
    """What changed, as a person wrote it; of a password only that there is one, or another one."""

    changed: bool
    before: dict[str, t.Any]
    after: dict[str, t.Any]

    def resource(self) -> dict[str, t.Any]:
        return {key: value for key, value in self.after.items() if key != "password"}


def full(name: str, domain: str, option: str) -> str:
    """The bare JID that a localpart or a JID means."""
    jid = jids.bare(name if "@" in name else f"{name}@{domain}")
    user, dummy, host = jid.partition("@")
    if not LOCALPART.match(user) or not LOCALPART.match(host):
        raise InvalidSpec([f"{option}: '{name}' is neither a localpart nor a JID of an account"])
    return jid


def merged(present: Names, wanted: t.Iterable[str] | None, append: bool) -> Names:
    """The names that shall be there."""
    if wanted is None:
        return present
    return tuple(sorted({*wanted, *(present if append else ())}))


def changes(present: Names, wanted: Names) -> dict[str, Names]:
    """What a Plan adds and removes."""
    return {
        "add": tuple(name for name in wanted if name not in present),
        "remove": tuple(name for name in present if name not in wanted),
    }


def account_plan(existing: Account, params: Params) -> Plan:
    """The steps to the declared account."""
    if params["state"] == "absent":
        return Plan(delete=existing.present, remove=existing.groups)
    return Plan(
        create=not existing.present,
        password=existing.present and existing.password_differs and params["update_password"] == "always",
        **changes(existing.groups, merged(existing.groups, params["groups"], params["append"])),
    )


def declared_group(existing: Group | None, params: Params) -> Group:
    """The group as it shall be; what is not declared stays."""
    present = existing or Group(params["group"], "", (), ())
    return present._replace(
        label=present.label if params["label"] is None else params["label"],
        description=present.description if params["description"] is None else params["description"],
        displayed=merged(present.displayed, params["displayed"], False),
        members=merged(present.members, params["members"], params["append"]),
    )


def group_plan(existing: Group | None, params: Params) -> Plan:
    """The steps to the declared group."""
    if params["state"] == "absent":
        return Plan(delete=existing is not None)
    wanted = declared_group(existing, params)
    present = existing or Group("", "", (), ())
    same = existing is not None and present._replace(members=()) == wanted._replace(members=())
    return Plan(create=existing is None, write=None if same else wanted, **changes(present.members, wanted.members))


def missing(wanted: t.Iterable[str], there: t.Collection[str], option: str, domain: str) -> None:
    """ejabberd takes the name of a group that is not there without a word, or refuses it without a reason."""
    problems = [f"{option}: there is no group '{name}' in {domain}" for name in wanted if name not in there]
    if problems:
        raise Conflict("; ".join(problems))


def account(api: Api, params: Params, check_mode: bool) -> Result:
    """Makes a declared account true; in check mode says what that would change."""
    jid = full(params["name"], jids.domain(params["jid"]), "name")
    user, domain = jids.node(jid), jids.domain(jid)
    password, absent = params["user_password"], params["state"] == "absent"
    if password == "":
        raise InvalidSpec(["user_password: empty"])
    if domain != jids.domain(params["jid"]) and domain not in api.domains():
        raise Conflict(f"name: the server does not serve the domain {domain}")
    present, groups = api.has_account(user, domain), ()
    if absent or params["groups"] is not None:
        there = api.groups(domain)
        missing(params["groups"] if params["groups"] and not absent else (), there, "groups", domain)
        groups = tuple(sorted(group for group in there if jid in api.members(group, domain)))
    compared = present and password is not None and params["update_password"] == "always" and not absent
    existing = Account(present, groups, compared and not api.password_is(user, domain, password))
    steps = account_plan(existing, params)
    if steps.create and password is None:
        raise InvalidSpec([f"user_password: needed to make the account {jid}"])
    if not check_mode:
        apply_account(api, jid, password, steps)
    return account_result(jid, existing, params, steps)


def apply_account(api: Api, jid: str, password: str, steps: Plan) -> None:
    user, domain = jids.node(jid), jids.domain(jid)
    # Out of the groups first: nobody who registers the name meanwhile inherits them.
    for group in steps.remove:
        api.leave(jid, group, domain)
    if steps.delete:
        api.unregister(user, domain)
    if steps.create:
        api.register(user, domain, password)
    if steps.password:
        api.change_password(user, domain, password)
    for group in steps.add:
        api.join(jid, group, domain)


def account_result(jid: str, existing: Account, params: Params, steps: Plan) -> Result:
    before: dict[str, t.Any] = {"jid": jid, "state": "present" if existing.present else "absent"}
    after: dict[str, t.Any] = {"jid": jid, "state": params["state"]}
    if params["groups"] is not None or steps.remove:
        before["groups"] = list(existing.groups)
    if params["state"] == "absent":
        return Result(steps.changed, before, after)
    if params["groups"] is not None:
        after["groups"] = sorted({*existing.groups, *steps.add}.difference(steps.remove))
    if steps.create:
        after["password"] = "(set)"
    if steps.password:
        before["password"], after["password"] = "(set)", "(changed)"
    return Result(steps.changed, before, after)


def group(api: Api, params: Params, check_mode: bool) -> Result:
    """Makes a declared group true; in check mode says what that would change."""
    name, domain = params["group"], jids.domain(params["jid"])
    if not LOCALPART.match(name) or name != name.lower():
        raise InvalidSpec([f"group: '{name}' is not in lower case, or has a space or one of \"&'/:<>@"])
    members = params["members"]
    params = {**params, "members": members and [full(member, domain, "members") for member in members]}
    there = api.groups(domain)
    existing = api.group(name, domain) if name in there else None
    steps = group_plan(existing, params)
    if steps.write:
        missing(params["displayed"] or (), {*there, name}, "displayed", domain)
        if existing and existing.others:
            raise Conflict(
                f"the group {name} has options that ejabberd's API would drop ({', '.join(existing.others)}); "
                "change its label, description and displayed groups where these were set"
            )
    if not check_mode:
        apply_group(api, name, domain, steps)
    wanted = None if params["state"] == "absent" else declared_group(existing, params)
    return Result(steps.changed, shown(name, existing), shown(name, wanted))


def apply_group(api: Api, name: str, domain: str, steps: Plan) -> None:
    if steps.delete:
        api.delete_group(name, domain)
    if steps.write:
        api.write_group(name, domain, steps.write)
    for jid in steps.remove:
        api.leave(jid, name, domain)
    for jid in steps.add:
        api.join(jid, name, domain)


def shown(name: str, there: Group | None) -> dict[str, t.Any]:
    """A group for the result and the diff."""
    if there is None:
        return {"group": name, "state": "absent"}
    return {
        "group": name,
        "state": "present",
        "label": there.label,
        "description": there.description,
        "displayed": list(there.displayed),
        "members": list(there.members),
    }


def main() -> None:
    account_options, group_options = ("user_password", "groups"), ("label", "description", "displayed", "members")
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "name": {"type": "str"},
            "group": {"type": "str"},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "user_password": {"type": "str", "no_log": True},
            "update_password": {
                "type": "str",
                "choices": ["on_create", "always"],
                "default": "always",
                "no_log": False,  # it only says when
            },
            "groups": {"type": "list", "elements": "str"},
            "label": {"type": "str"},
            "description": {"type": "str"},
            "displayed": {"type": "list", "elements": "str"},
            "members": {"type": "list", "elements": "str"},
            "append": {"type": "bool", "default": False},
            "api": {"type": "str", "choices": list(PORTS), "default": "https"},
            "api_port": {"type": "int"},
        },
        required_one_of=[("name", "group")],
        mutually_exclusive=[
            ("name", "group"),
            *(("group", option) for option in account_options),
            *(("name", option) for option in group_options),
        ],
        supports_check_mode=True,
    )
    params = module.params
    kind, converge = ("user", account) if params["name"] is not None else ("group", group)
    try:
        api = Api(_connection.options(params), params["api"], params["api_port"])
        result = converge(api, params, module.check_mode)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    module.exit_json(
        changed=result.changed,
        diff={"before": result.before, "after": result.after} if result.changed else {"before": {}, "after": {}},
        **{kind: result.resource()},
    )


if __name__ == "__main__":
    main()
