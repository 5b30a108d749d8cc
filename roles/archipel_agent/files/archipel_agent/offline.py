# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""``archipel-agent import``: domains come under management, or leave it, while the agent does not run.

JSON in, JSON out, as module ``archipel_import`` sends and reads it. Accounts are made, removed and given their
passwords by the agent's next start.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import secrets
import typing as t

from archipel_protocol import errors, jids

from . import adoption, domains, grants, legacy, state_folder
from .config import Config
from .libvirt_facade import libvirt, translate
from .store import ForeignDatabase, Row, Store


class Refused(Exception):
    """It cannot be done, and nothing was; the text says why."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The request. ``names`` and ``uuids`` both empty: all domains; ``upgrade``: those of Archipel 0.6, and no others.

    ``upgrade`` is the folder that was its archipel_folder_lib, ``machines`` that of the virtual machines' folders.
    """

    managed: bool = True
    names: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    upgrade: str = ""
    machines: str = ""
    change_domain: bool = False
    check: bool = False


def run(config: Config, request: str) -> str:
    """Does what is asked, as the owner of the databases; raises Refused. The answer has no secret."""
    wanted = Wanted(**json.loads(request))
    folder = config.archipel_folder_lib
    try:
        # Root's, and not for the eyes of the agent's user.
        old = legacy.read(pathlib.Path(wanted.upgrade), pathlib.Path(wanted.machines)) if wanted.upgrade else None
        state_folder.become_owner(folder)
        with state_folder.held(folder), _Host(config, wanted.check) as host:
            answer = host.manage(wanted) if old is None else host.upgrade(old, wanted.change_domain)
    except (legacy.LegacyError, state_folder.Unusable, ForeignDatabase) as fault:
        raise Refused(str(fault)) from None
    except errors.ArchipelError as fault:
        raise Refused(fault.message) from None
    except libvirt.libvirtError as fault:
        raise Refused(f"libvirt at {config.libvirt_uri}: {translate(fault).message}") from None
    return json.dumps(answer)


class _Host:
    """This host's databases and libvirt. With ``check`` nothing is written; a database that is missing stays so."""

    def __init__(self, config: Config, check: bool) -> None:
        self._jid = jids.bare(config.hypervisor_xmpp_jid)
        self._node, self._domain = config.node, config.domain
        self._folder = config.archipel_folder_lib
        self._check = check
        libvirt.registerErrorHandler(lambda context, fault: None, None)
        self._connection = libvirt.open(config.libvirt_uri)
        path = self._folder / "hypervisor.sqlite3"
        self._store = None if check and not path.exists() else Store(path)
        self._rows: dict[str, Row] = {} if self._store is None else {row.jid: row for row in self._store.rows()}

    def __enter__(self) -> _Host:
        return self

    def __exit__(self, *dummy: object) -> None:
        if self._store is not None:
            self._store.close()
        self._connection.close()

    def manage(self, wanted: Wanted) -> dict[str, t.Any]:
        """{"imported": [...], "released": [...]} of {"name", "uuid", "jid", "hypervisor"}."""
        # A machine that is managed need not be defined.
        found = {jids.node(jid): row.name for jid, row in self._rows.items()} | self._names()
        chosen = [
            (jids.vm_jid(uuid, self._domain), found[uuid])
            for uuid in _chosen(found, wanted, self._node)
            if self._is_managed(uuid) != wanted.managed
        ]
        for jid, name in () if self._check or self._store is None else chosen:
            if not wanted.managed:
                self._store.change(jid, releasing=True)
            elif jid in self._rows:
                self._store.change(jid, name=name, releasing=False, registered=False)
            else:
                self._store.add(jid, name, secrets.token_urlsafe(32))
        shown = [self._shown(*one) for one in chosen]
        return {"imported": shown if wanted.managed else [], "released": [] if wanted.managed else shown}

    def upgrade(self, old: legacy.Legacy, change_domain: bool) -> dict[str, t.Any]:
        """As manage(), and "cleaned": [name], "granted": [...], "denied": [...] of grants, "warnings": [text]."""
        found = self._names()
        adopted = frozenset[str]() if self._store is None else self._store.adopted()
        taken = adoption.adopt(old, self._jid, self._rows, adopted, found, change_domain)
        given = self._grant(taken.grants)
        if self._store is not None and not self._check and taken.entities:
            # Last, so that an interruption before it has all of it done again.
            self._store.adopt(taken.rows, taken.entities)
        cleaned = [machine for machine in old.machines if machine.uuid in found and self._clean(machine)]
        missing = [row.name for row in taken.rows if jids.node(row.jid) not in found]
        return {
            "imported": [self._shown(row.jid, row.name) for row in taken.rows],
            "released": [],
            "cleaned": [found[machine.uuid] for machine in cleaned],
            "granted": [{"entity": one.entity, "user": one.subject, "permission": one.name} for one in given],
            "denied": [one._asdict() for one in taken.denied],
            "taken": list(taken.entities),
            "warnings": [*old.ignored, *(f"{name} is not defined in libvirt on this host" for name in missing)],
        }

    def _names(self) -> dict[str, str]:
        """The name of each domain, by UUID."""
        return {one.uuid: one.name for one in domains.survey(self._connection, lambda uuid, name: False)}

    def _is_managed(self, uuid: str) -> bool:
        row = self._rows.get(jids.vm_jid(uuid, self._domain))
        return row is not None and not row.releasing

    def _shown(self, jid: str, name: str) -> dict[str, str]:
        uuid = jids.node(jid)
        return {
            "name": name,
            "uuid": uuid,
            "jid": jids.vm_jid(uuid, self._domain, self._node),
            "hypervisor": self._node,
        }

    def _grant(self, wanted: t.AbstractSet[grants.Grant]) -> list[grants.Grant]:
        """Those of ``wanted`` that there were not yet, which then are there."""
        path = self._folder / "permissions.sqlite3"
        if self._check and not path.exists():
            return sorted(wanted)
        store = grants.Store(path)
        try:
            before = store.load()
            if not self._check:
                store.save(before, dataclasses.replace(before, grants=before.grants | wanted))
            return sorted(wanted - before.grants)
        finally:
            store.close()

    def _clean(self, machine: legacy.Machine) -> bool:
        """Whether there was a password in the domain's description, which then is there no more."""

        def clean(text: str) -> str:
            return legacy.without_password(text, machine.uuid, machine.password)

        return domains.rewrite_description(self._connection, machine.uuid, clean, not self._check)


def _chosen(found: t.Mapping[str, str], wanted: Wanted, node: str) -> list[str]:
    """The UUIDs of the domains that are meant, each once, sorted by name; Refused where one to manage is missing."""
    if not (wanted.names or wanted.uuids):
        return sorted(found, key=found.__getitem__)
    by_name = {name: uuid for uuid, name in found.items()}
    for option, values, known in (("name", wanted.names, by_name), ("uuid", wanted.uuids, found)):
        for value in values:
            if value not in known and wanted.managed:
                raise Refused(f"{option}: libvirt on {node} has no domain '{value}'")
    meant = {*(by_name.get(name) for name in wanted.names), *wanted.uuids}
    return sorted(meant & found.keys(), key=found.__getitem__)
