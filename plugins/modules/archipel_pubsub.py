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
  - Makes nodes of the platform's publish-subscribe service (XEP-0060) present, with a given configuration, affiliations
    and items, or absent.
  - What drifted from the declaration is mended. What is not declared stays as it is.
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
      - If not given, with O(kind) they are the platform's hypervisors as the roster of O(jid) tells them, and with
        O(node) they stay as they are. They stay as they are, too, where the roster tells of no hypervisor.
    type: list
    elements: str
  affiliations:
    description:
      - What accounts are to the node (XEP-0060, 4.1), O(publishers) besides. Accounts that are not named keep theirs,
        unless O(purge_affiliations) is set.
    type: list
    elements: dict
    suboptions:
      jid:
        description: Bare JID of the account.
        type: str
        required: true
      affiliation:
        description:
          - V(owner) configures, deletes, publishes and reads. V(publisher) publishes and reads, V(publish-only)
            publishes, V(member) reads what is not open to everyone, V(outcast) may do nothing, V(none) has no
            affiliation.
          - The account of O(jid) stays an owner.
        type: str
        choices:
          - owner
          - publisher
          - publish-only
          - member
          - outcast
          - none
        required: true
  purge_affiliations:
    description:
      - Every affiliation goes that neither O(affiliations) nor O(publishers) names. The account of O(jid) stays an
        owner.
    type: bool
    default: false
  items:
    description:
      - Items that the node holds or does not hold. Others stay, unless O(purge_items) is set.
      - Only for a node that keeps its items.
    type: list
    elements: dict
    suboptions:
      id:
        description: The item's identifier.
        type: str
        required: true
      payload:
        description:
          - XML text of the one element that the item holds, without a document type declaration and not longer than the
            node's field C(max_payload_size), or 60000 bytes. Needed if O(items[].state=present).
          - Blanks between elements and the order of attributes do not count when it is compared with what is there.
          - An element without a namespace of its own has that of the item around it,
            C(http://jabber.org/protocol/pubsub), as those that Archipel publishes. Attributes have no namespace.
        type: str
      state:
        description: Whether the item is there.
        type: str
        choices:
          - absent
          - present
        default: present
  purge_items:
    description: Every item goes that O(items) does not name.
    type: bool
    default: false
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

- name: Two roles that a client can offer, and no other
  archipel.platform.archipel_pubsub:
    kind: roles
    items:
      - id: reader
        payload: <role name="reader" description="May look"/>
      - id: operator
        payload: |
          <role name="operator" description="May start and stop">
            <permission permission_target="template" permission_name="create" permission_value="true"/>
            <permission permission_target="template" permission_name="shutdown" permission_value="true"/>
          </role>
    purge_items: true

- name: A person reads the parked machines, and nobody publishes but the hypervisors
  archipel.platform.archipel_pubsub:
    kind: vmparking
    affiliations:
      - jid: alice@example.org
        affiliation: member
    purge_affiliations: true

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
    affiliations:
      description: What accounts are to the node. Not there for a node that is absent.
      type: list
      elements: dict
      sample:
        - jid: automation@example.org
          affiliation: owner
        - jid: hv1@example.org
          affiliation: publisher
    items:
      description:
        - Of the items that O(items) names those that are there, and with O(purge_items) all. Only if O(items) is
          given, and not there for a node that is absent.
      type: list
      elements: dict
      sample:
        - id: reader
          payload: <role description="May look" name="reader" />
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils import _connection, _pubsub_plan as planning
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils._errors import Conflict, InvalidSpec
from ansible_collections.archipel.platform.plugins.module_utils._pubsub import Service
from ansible_collections.archipel.platform.plugins.module_utils._pubsub_plan import Desired, Plan, Present
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids, pubsub
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

ITEM: dict[str, t.Any] = {
    "id": {"type": "str", "required": True},
    "payload": {"type": "str"},
    "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
}
AFFILIATION: dict[str, t.Any] = {
    "jid": {"type": "str", "required": True},
    "affiliation": {"type": "str", "choices": list(planning.AFFILIATIONS), "required": True},
}


def read(service: Service, desired: Desired) -> Present | None:
    """What there is of a declared node, its items as far as the declaration is about them."""
    node = service.read(desired.name)
    if node is None:
        return None
    items = desired.items if desired.present else None
    wanted = None if desired.purge_items else list(items or ())
    return Present(node, service.items(desired.name, wanted) if items or desired.purge_items else {})


def apply(service: Service, name: str, steps: Plan) -> None:
    if steps.delete:
        service.delete(name)
    elif steps.create:
        service.create(name, steps.config)
    elif steps.config:
        service.configure(name, steps.config)
    if steps.affiliations:
        service.affiliate(name, steps.affiliations)
    service.retract(name, steps.retract)
    service.publish(name, steps.publish)


def shown(present: Present | None, desired: Desired) -> dict[str, t.Any]:
    """A node for the result and the diff: of its configuration and items what the declaration is about."""
    if present is None:
        return {"node": desired.name, "state": "absent"}
    node, items = present
    found = {
        "node": desired.name,
        "state": "present",
        "config": {key: " ".join(node.config.get(key, ())) for key in sorted(desired.config)},
        "publishers": node.publishers(),
        "affiliations": [{"jid": jid, "affiliation": node.affiliations[jid]} for jid in sorted(node.affiliations)],
    }
    if desired.items is not None:
        found["items"] = [{"id": item, "payload": items[item]} for item in sorted(items)]
    return found


def check(service: Service, found: list[tuple[Desired, Present | None]], force: bool) -> None:
    """Raises what speaks against the declaration, before anything changes."""
    problems = [problem for desired, present in found for problem in planning.faults(present, desired)]
    if problems:
        raise InvalidSpec(problems)
    for desired, present in found:
        if present and not desired.present and not force and service.holds_items(desired.name):
            raise Conflict("the node %s holds items; give force to delete it with them" % desired.name)


def converge(client: Client, nodes: list[Desired], params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Makes the declared nodes true; in check mode says what that would change. The module's result."""
    owner = jids.bare(params["jid"])
    service = Service(client, params["service"] or pubsub.service(client.domain))
    if params["kind"] and params["publishers"] is None and params["state"] == "present":
        hypervisors = ["%s@%s" % (node, client.domain) for node in client.hypervisors()]
        nodes = [desired._replace(publishers=hypervisors or None) for desired in nodes]
    found = [(desired, read(service, desired)) for desired in nodes]
    check(service, found, params["force"])
    result: dict[str, t.Any] = {"changed": False, "nodes": [], "diff": []}
    for desired, present in found:
        steps = planning.plan(present, desired, owner)
        if not check_mode:
            apply(service, desired.name, steps)
        after = shown(planning.outcome(present, desired, steps, owner), desired)
        result["nodes"].append(after)
        if steps.changed:
            result["changed"] = True
            result["diff"].append({"before": shown(present, desired), "after": after})
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_connection.argument_spec(),
            "kind": {"type": "str", "choices": list(planning.KINDS)},
            "node": {"type": "str"},
            "config": {"type": "dict", "default": {}},
            "publishers": {"type": "list", "elements": "str"},
            "affiliations": {"type": "list", "elements": "dict", "options": AFFILIATION},
            "purge_affiliations": {"type": "bool", "default": False},
            "items": {"type": "list", "elements": "dict", "options": ITEM},
            "purge_items": {"type": "bool", "default": False},
            "service": {"type": "str"},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "force": {"type": "bool", "default": False},
        },
        required_one_of=[("kind", "node")],
        mutually_exclusive=[("kind", "node")],
        supports_check_mode=True,
    )
    try:
        nodes = planning.declared(module.params, jids.bare(module.params["jid"]))
        with Client(_connection.options(module.params)) as client:
            result = converge(client, nodes, module.params, module.check_mode)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
