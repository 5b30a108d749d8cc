# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of Archipel 0.6 (legacy.py) becomes ours: rows of the store, and grants. Pure; each entity is taken once.

A machine that was taken and then released, or moved to another host, is not taken again: its account is in other hands.
"""

from __future__ import annotations

import dataclasses
import secrets
import typing as t

from archipel_protocol import jids, permissions

from .grants import Grant
from .legacy import Legacy, LegacyError, Machine, Pair
from .store import Row


class Denied(t.NamedTuple):
    """A grant of 0.6 that is not taken over."""

    entity: str
    user: str
    permission: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Adoption:
    """``rows`` come under management; ``entities`` are all that count as taken from now on."""

    rows: tuple[Row, ...]
    grants: frozenset[Grant]
    denied: tuple[Denied, ...]
    entities: tuple[str, ...]


def adopt(
    legacy: Legacy,
    hypervisor: str,
    rows: t.Mapping[str, Row],
    adopted: t.Collection[str],
    names: t.Mapping[str, str],
    change_domain: bool,
) -> Adoption:
    """What is still to be taken, given the hypervisor's bare JID, the store's rows and libvirt's ``names`` by UUID.

    Raises LegacyError where the XMPP domain is another one and is not to change.
    """
    domain = jids.domain(hypervisor)
    others = sorted({machine.domain for machine in legacy.machines} - {domain})
    if others and not change_domain:
        raise LegacyError(
            f"the virtual machines of Archipel 0.6 are in the XMPP domain {', '.join(others)}, this hypervisor in"
            f" {domain}; upgrade_change_domain moves them"
        )
    made: list[Row] = []
    granted: set[Grant] = set()
    denied: list[Denied] = []
    entities: list[str] = []
    sources = [(hypervisor, "hypervisor", legacy.grants)]
    sources += [(jids.vm_jid(machine.uuid, domain), "vm", machine.grants) for machine in legacy.machines]
    for entity, kind, pairs in sources:
        if entity not in adopted:
            entities.append(entity)
            mapped, refused = _grants(entity, kind, pairs, dict.fromkeys(others, domain))
            granted |= mapped
            denied += refused
    for machine in legacy.machines:
        jid = jids.vm_jid(machine.uuid, domain)
        if jid not in adopted and jid not in rows:
            made.append(_row(jid, machine, names.get(machine.uuid, machine.name)))
    return Adoption(tuple(made), frozenset(granted), tuple(denied), tuple(entities))


def _row(jid: str, machine: Machine, name: str) -> Row:
    return Row(
        jid=jid,
        # The account's, where it exists. Its first login sets the other one.
        password=machine.password,
        next_password=secrets.token_urlsafe(32),
        creation_date=machine.creation_date,
        comment=machine.comment,
        name=name,
        registered=False,
        releasing=False,
        handover_to=None,
        handover_autostart=False,
    )


def _grants(
    entity: str, kind: str, pairs: t.Iterable[Pair], domains: t.Mapping[str, str]
) -> tuple[set[Grant], list[Denied]]:
    """The names of 0.6 are ours, as far as there is what they allow."""
    granted, denied = set(), []
    for user, permission in pairs:
        new = domains.get(jids.domain(user))
        account = f"{jids.node(user)}@{new}" if new else user
        if not jids.is_account(account):
            denied.append(Denied(entity, user, permission, "no account"))
        elif permission == permissions.HOST_ACCESS or permission not in permissions.KINDS[kind]:
            denied.append(Denied(entity, account, permission, "no such permission"))
        else:
            granted.add(Grant(entity, account, permission))
    return granted, denied
