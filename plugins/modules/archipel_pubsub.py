#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_pubsub
short_description: Manage publish-subscribe nodes of the platform
version_added: 1.0.0
description:
  - Makes nodes of the platform's publish-subscribe service (XEP-0060) present, with a given configuration and given
    publishers, or absent.
  - A node's configuration that drifted is mended. Fields that are not declared stay as they are.
  - The account of O(jid) becomes the owner of what it makes, and must be an owner of what it changes.
author:
  - Archipel maintainers (@archipel)
options:
  kind:
    description:
      - One of the platform's own nodes, with a configuration that lets nobody publish but the owner and O(publishers).
      - V(tags) is C(/archipel/tags), V(roles) C(/archipel/roles), V(adminaccounts) C(/archipel/adminaccounts),
        V(vmparking) C(/archipel/vmparking), V(vmrequest) the two nodes C(/archipel/platform/requests/in) and C(out),
        V(centralagent) C(/archipel/centralagentkeepalive).
      - Every account reads V(tags), V(roles), V(adminaccounts) and V(centralagent). Only who is affiliated reads
        V(vmparking), which holds definitions of virtual machines, and V(vmrequest).
    type: str
    choices:
      - tags
      - roles
      - adminaccounts
      - vmparking
      - vmrequest
      - centralagent
  node:
    description: Name of any other node.
    type: str
  config:
    description:
      - Fields of the node's configuration, named as in XEP-0060 without C(pubsub#), such as C(access_model) or
        C(max_items).
      - With O(kind), they are laid over the kind's own.
    type: dict
    default: {}
  publishers:
    description:
      - Bare JIDs that may publish, exactly these. Owners always may.
      - If not given, the publishers stay as they are.
    type: list
    elements: str
  service:
    description:
      - JID of the publish-subscribe service.
      - If not given, C(pubsub.) and the domain of O(jid).
    type: str
  state:
    description: Whether the node is there.
    type: str
    choices:
      - absent
      - present
    default: present
  force:
    description: Delete a node that holds items. With O(state=absent).
    type: bool
    default: false
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
"""

EXAMPLES = r"""
- name: Hypervisors publish tags, everyone reads them
  archipel.platform.archipel_pubsub:
    kind: tags
    publishers:
      - hv1@example.org
      - hv2@example.org

- name: A node of one's own
  archipel.platform.archipel_pubsub:
    node: /example/announcements
    config:
      access_model: open
      publish_model: publishers
      max_items: 10

- name: It goes, with its items
  archipel.platform.archipel_pubsub:
    node: /example/announcements
    state: absent
    force: true
"""

RETURN = r"""
nodes:
  description: What was declared, one element a node. Only O(kind=vmrequest) has two.
  returned: success
  type: list
  elements: dict
  contains:
    node:
      description: Name of the node.
      type: str
      sample: /archipel/tags
    state:
      description: Whether it is there, or in check mode would be.
      type: str
      sample: present
    config:
      description: The declared fields of its configuration. Not there for a node that is absent.
      type: dict
      sample:
        access_model: open
        publish_model: publishers
    publishers:
      description: Who may publish without owning it. Not there for a node that is absent.
      type: list
      elements: str
      sample:
        - hv1@example.org
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils._errors import Conflict, InvalidSpec
from ansible_collections.archipel.platform.plugins.module_utils._pubsub import Node, Service, Values, values
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids, pubsub
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

Config = t.Dict[str, t.Any]

COMMON: Config = {
    "publish_model": "publishers",
    "deliver_notifications": True,
    "deliver_payloads": True,
    "notification_type": "headline",
    "send_last_published_item": "never",
}
# "max": as many as the server allows (XEP-0060, 16.4.4).
KEPT: Config = {**COMMON, "persist_items": True, "max_items": "max"}
PASSING: Config = {**COMMON, "persist_items": False}

KINDS: dict[str, dict[str, Config]] = {
    "tags": {pubsub.TAGS: {**KEPT, "access_model": "open", "notify_retract": False}},
    "roles": {pubsub.ROLES: {**KEPT, "access_model": "open", "notify_retract": False}},
    "adminaccounts": {pubsub.ADMIN_ACCOUNTS: {**KEPT, "access_model": "open", "notify_retract": True}},
    "vmparking": {
        pubsub.VM_PARKING: {**KEPT, "access_model": "whitelist", "notify_retract": True, "itemreply": "publisher"}
    },
    "vmrequest": {
        name: {**PASSING, "access_model": "whitelist", "notify_retract": False, "itemreply": "publisher"}
        for name in (pubsub.REQUESTS_IN, pubsub.REQUESTS_OUT)
    },
    "centralagent": {pubsub.CENTRAL_AGENT: {**PASSING, "access_model": "open", "notify_retract": True}},
}


class Desired(t.NamedTuple):
    """One declared node. ``publishers`` None: as they are."""

    name: str
    present: bool
    config: dict[str, Values]
    publishers: list[str] | None


class Plan(t.NamedTuple):
    """What is to be done; ``config`` and ``affiliations`` hold what differs."""

    create: bool = False
    delete: bool = False
    config: dict[str, Values] = {}
    affiliations: dict[str, str] = {}

    @property
    def changed(self) -> bool:
        return self != Plan()


def declared(params: t.Mapping[str, t.Any]) -> list[Desired]:
    """The nodes that the options mean."""
    nodes = KINDS[params["kind"]] if params["kind"] else {params["node"]: {}}
    problems = [
        "publishers: '%s' is no JID of an account" % jid for jid in params["publishers"] or () if not jids.node(jid)
    ]
    if problems:
        raise InvalidSpec(problems)
    publishers = None if params["publishers"] is None else sorted({jids.bare(jid) for jid in params["publishers"]})
    return [
        Desired(
            name,
            params["state"] == "present",
            {key: values(value) for key, value in {**config, **params["config"]}.items()},
            publishers,
        )
        for name, config in nodes.items()
    ]


def plan(existing: Node | None, desired: Desired, owner: str) -> Plan:
    """The steps from what is to what shall be; ``owner`` is the bare JID that takes them."""
    if not desired.present:
        return Plan(delete=existing is not None)
    present = existing or Node({}, {owner: "owner"})
    affiliations = {}
    if desired.publishers is not None:
        wanted = {jid for jid in desired.publishers if present.affiliations.get(jid) not in ("owner", "publisher")}
        surplus = set(present.publishers()) - set(desired.publishers)
        affiliations = {**dict.fromkeys(sorted(surplus), "none"), **dict.fromkeys(sorted(wanted), "publisher")}
    return Plan(
        create=existing is None,
        config={key: value for key, value in desired.config.items() if present.config.get(key) != value},
        affiliations=affiliations,
    )


def outcome(existing: Node | None, desired: Desired, steps: Plan) -> Node | None:
    """The node as the steps leave it, of its configuration what is declared."""
    if not desired.present:
        return None
    return Node(desired.config, {**(existing.affiliations if existing else {}), **steps.affiliations})


def apply(service: Service, name: str, steps: Plan) -> None:
    if steps.delete:
        service.delete(name)
    elif steps.create:
        service.create(name, steps.config)
    elif steps.config:
        service.configure(name, steps.config)
    if steps.affiliations:
        service.affiliate(name, steps.affiliations)


def shown(node: Node | None, desired: Desired) -> dict[str, t.Any]:
    """A node for the result and the diff: of its configuration what is declared."""
    if node is None:
        return {"node": desired.name, "state": "absent"}
    config = {key: " ".join(node.config.get(key, ())) for key in sorted(desired.config)}
    return {"node": desired.name, "state": "present", "config": config, "publishers": node.publishers()}


def unknown(existing: Node, desired: Desired) -> list[str]:
    """The declared fields that the service does not have."""
    return ["config: the service knows no field '%s'" % key for key in desired.config if key not in existing.config]


class Result(t.NamedTuple):
    changed: bool
    before: dict[str, t.Any]
    after: dict[str, t.Any]


def converge(service: Service, desired: Desired, owner: str, force: bool, check_mode: bool) -> Result:
    """Makes one declared node true; in check mode says what that would change."""
    existing = service.read(desired.name)
    if existing is not None and desired.present and unknown(existing, desired):
        raise InvalidSpec(unknown(existing, desired))
    steps = plan(existing, desired, owner)
    if steps.delete and not force and service.holds_items(desired.name):
        raise Conflict("the node %s holds items; give force to delete it with them" % desired.name)
    if not check_mode:
        apply(service, desired.name, steps)
    return Result(steps.changed, shown(existing, desired), shown(outcome(existing, desired, steps), desired))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "kind": {"type": "str", "choices": list(KINDS)},
            "node": {"type": "str"},
            "config": {"type": "dict", "default": {}},
            "publishers": {"type": "list", "elements": "str"},
            "service": {"type": "str"},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "force": {"type": "bool", "default": False},
        },
        required_one_of=[("kind", "node")],
        mutually_exclusive=[("kind", "node")],
        supports_check_mode=True,
    )
    try:
        nodes = declared(module.params)
        with Client(_connection.options(module.params)) as client:
            service = Service(client, module.params["service"] or pubsub.service(client.domain))
            owner, force = jids.bare(module.params["jid"]), module.params["force"]
            results = [converge(service, node, owner, force, module.check_mode) for node in nodes]
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    module.exit_json(
        changed=any(result.changed for result in results),
        nodes=[result.after for result in results],
        diff=[{"before": result.before, "after": result.after} for result in results if result.changed],
    )


if __name__ == "__main__":
    main()
