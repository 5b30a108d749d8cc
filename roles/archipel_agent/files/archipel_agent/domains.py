# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the declaration engine does to libvirt's domains: plain functions that run in Libvirt.call()."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from archipel_protocol import namespaces as ns, states
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import domain_xml, metadata, own_files, started
from .libvirt_facade import libvirt

_DUMP = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_LIVE_DUMP = libvirt.VIR_DOMAIN_XML_SECURE
_GONE = (libvirt.VIR_ERR_NO_DOMAIN,)
# To ask for so many one by one costs less than to list all several times.
FEW = 8
# No such element, or a driver that keeps none.
_NO_METADATA = (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_SUPPORT)


class Conflict(ArchipelError):
    """Somebody else was quicker."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A domain as libvirt has it. ``memory`` in KiB; ``xml`` INACTIVE and SECURE, empty where it was not asked for.

    ``autostart`` is false where it was not asked for.
    """

    uuid: str
    name: str
    state: int
    persistent: bool
    autostart: bool
    memory: int
    vcpus: int
    tags: tuple[str, ...] = ()
    xml: str = ""

    @property
    def active(self) -> bool:
        """Whether the domain runs, in whatever way."""
        return self.state in states.ACTIVE


class Running(t.NamedTuple):
    """What an active domain has: its XML, SECURE, and the <cpu/> that it was started with, empty if none was stated."""

    xml: str
    processor: str


class Identity(t.NamedTuple):
    """What a listing tells of a domain without asking libvirt for each."""

    uuid: str
    name: str


class Listing(t.NamedTuple):
    """What listings tell of all domains, for less than a question for each; the sets hold UUIDs."""

    identities: list[Identity]
    saved: set[str]
    persistent: set[str]
    autostart: set[str]


def identities(connection: libvirt.virConnect) -> list[Identity]:
    """Those of all domains."""
    return [Identity(domain.UUIDString(), domain.name()) for domain in connection.listAllDomains()]


def listing(connection: libvirt.virConnect) -> Listing:
    """That of this moment. Who is missing in a later one was undefined meanwhile."""
    known = identities(connection)
    saved = _having(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    persistent = _having(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    return Listing(known, saved, persistent, _having(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))


def survey(
    connection: libvirt.virConnect,
    with_xml: t.Callable[[str, str], bool],
    only: t.Collection[str] | None = None,
    known: Listing | None = None,
    with_autostart: bool = True,
    handles: dict[str, libvirt.virDomain] | None = None,
) -> list[Machine]:
    """All domains, or those whose UUIDs are in ``only``; ``with_xml(uuid, name)`` tells whose definition is wanted.

    ``known`` is a listing that was just made, and without ``only`` the domains in it are all. ``handles`` gets those of
    libvirt's, by UUID.
    """
    handles = {} if handles is None else handles
    if only is not None and len(only) <= FEW:
        return list(filter(None, (_look(connection, uuid, with_xml, with_autostart, handles) for uuid in only)))
    known = known or listing(connection)
    wanted = {one.uuid for one in known.identities if only is None or one.uuid in only}
    found = []
    for domain in connection.listAllDomains():
        uuid = domain.UUIDString()
        if uuid not in wanted:
            continue
        details = with_xml(uuid, domain.name())
        sets = (known.saved, known.persistent, known.autostart)
        try:
            found.append(_machine(domain, details, *(uuid in one for one in sets)))
            handles[uuid] = domain
        except libvirt.libvirtError as fault:
            # Undefined between the listing and the look at it.
            if fault.get_error_code() not in _GONE:
                raise
    return found


def _having(connection: libvirt.virConnect, flag: int) -> set[str]:
    """The UUIDs of the domains to which one of virConnectListAllDomainsFlags applies."""
    return {domain.UUIDString() for domain in connection.listAllDomains(flag)}


def look(connection: libvirt.virConnect, uuid: str) -> Machine | None:
    """One domain with its definition; None if there is none."""
    return _look(connection, uuid, lambda uuid, name: True)


def running(domain: libvirt.virDomain) -> Running | None:
    """What an active domain has; None of one that is gone."""
    try:
        return Running(domain.XMLDesc(_LIVE_DUMP), started.processor(domain))
    except libvirt.libvirtError as fault:
        if fault.get_error_code() in _GONE:
            return None
        raise


def _look(
    connection: libvirt.virConnect,
    uuid: str,
    with_xml: t.Callable[[str, str], bool],
    with_autostart: bool = True,
    handles: dict[str, libvirt.virDomain] | None = None,
) -> Machine | None:
    try:
        domain = connection.lookupByUUIDString(uuid)
        if handles is not None:
            handles[uuid] = domain
        # One that does not run has a definition, or it would not be.
        off = domain.ID() < 0
        persistent = off or bool(domain.isPersistent())
        saved = off and bool(domain.hasManagedSaveImage())
        autostart = with_autostart and persistent and bool(domain.autostart())
        return _machine(domain, with_xml(uuid, domain.name()), saved, persistent, autostart)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() in _GONE:
            return None
        raise


def _machine(
    domain: libvirt.virDomain, with_xml: bool, saved: bool, persistent: bool, autostart: bool, tagged: bool = True
) -> Machine:
    """``tagged``: where its definition is not read, whether it may have tags."""
    state, memory, dummy, vcpus, dummy = domain.info()
    if state == states.SHUTOFF and saved:
        state = states.SAVED
    xml = domain.XMLDesc(_DUMP) if with_xml else ""
    return Machine(
        uuid=domain.UUIDString(),
        name=domain.name(),
        state=state,
        persistent=persistent,
        autostart=autostart,
        memory=memory,
        vcpus=vcpus,
        tags=_tags(domain, persistent) if (ns.TAGS in xml if with_xml else tagged) else (),
        xml=xml,
    )


def uuid_of(connection: libvirt.virConnect, name: str) -> str | None:
    """The UUID of the domain with this name; None if there is none."""
    try:
        return str(connection.lookupByName(name).UUIDString())
    except libvirt.libvirtError as fault:
        if fault.get_error_code() in _GONE:
            return None
        raise


def default_type(connection: libvirt.virConnect, architecture: str | None) -> str:
    """The domain type of a machine that states none: the fastest that works here."""
    driver = connection.getType().lower()
    if driver != "qemu":
        return str(driver)
    try:
        connection.getDomainCapabilities(None, architecture, None, "kvm")
    except libvirt.libvirtError:
        return "qemu"
    return "kvm"


def emulator(connection: libvirt.virConnect, architecture: str, machine: str, domain_type: str) -> str:
    """The emulator that libvirt itself chooses; empty for a driver without one."""
    try:
        xml = connection.getDomainCapabilities(None, architecture, machine, domain_type)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return ""
        raise
    return domain_xml.text_of(domain_xml.parse(xml, "the domain capabilities"), "path")


def define(connection: libvirt.virConnect, uuid: str, expected: str | None, xml: str) -> str:
    """Define ``xml`` if the definition is still ``expected`` (None: there is none yet); what libvirt made of it."""
    return str(_define(connection, uuid, expected, xml).XMLDesc(_DUMP))


def _define(connection: libvirt.virConnect, uuid: str, expected: str | None, xml: str) -> libvirt.virDomain:
    now = look(connection, uuid)
    if (now.xml if now else None) != expected:
        raise Conflict("the definition was changed by someone else meanwhile; try again", CODE_DECLARATION)
    return connection.defineXML(xml)


class Begun(t.NamedTuple):
    """What became of a machine that was defined: it was started, or why not."""

    machine: Machine | None = None
    fault: ArchipelError | libvirt.libvirtError | None = None


def define_and_start(
    connection: libvirt.virConnect,
    uuid: str,
    xml: str,
    judge: t.Callable[[libvirt.virConnect, str], object],
    paused: bool,
) -> Begun:
    """Define a new machine and start it, if ``judge(connection, what libvirt made of xml)`` does not raise.

    As define() and start() in one call, for a third of their questions to libvirt.
    """
    domain = _define(connection, uuid, None, xml)
    kept = str(domain.XMLDesc(_DUMP))
    try:
        judge(connection, kept)
        _start(domain, paused)
        return Begun(_machine(domain, False, False, True, False, ns.TAGS in kept))
    except (ArchipelError, libvirt.libvirtError) as fault:
        return Begun(None, fault)


def rename(connection: libvirt.virConnect, uuid: str, name: str) -> str:
    """Rename an inactive domain; its definition afterwards."""
    domain = connection.lookupByUUIDString(uuid)
    domain.rename(name)
    return str(domain.XMLDesc(_DUMP))


def set_autostart(connection: libvirt.virConnect, uuid: str, enabled: bool) -> None:
    """Have the domain started with its host, or not."""
    connection.lookupByUUIDString(uuid).setAutostart(int(enabled))


def set_tags(connection: libvirt.virConnect, uuid: str, tags: t.Sequence[str]) -> None:
    """Give the domain these tags and no others: the definition, and what runs."""
    _set_metadata(connection, uuid, ns.TAGS, metadata.written(tags) if tags else None)


def unmark(connection: libvirt.virConnect, uuid: str) -> None:
    """Remove the mark of metadata.mark()."""
    _set_metadata(connection, uuid, metadata.ARRIVING, None)


def _set_metadata(connection: libvirt.virConnect, uuid: str, namespace: str, text: str | None) -> None:
    domain = connection.lookupByUUIDString(uuid)
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    try:
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, metadata.PREFIX, namespace, flags)
    except libvirt.libvirtError as fault:
        # There is none to be removed.
        if text is not None or fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise


def rewrite_description(
    connection: libvirt.virConnect, uuid: str, rewrite: t.Callable[[str], str], change: bool
) -> bool:
    """Whether ``rewrite`` makes another text of the description, of the definition or of what runs; it is set then."""
    domain = connection.lookupByUUIDString(uuid)
    sides = [libvirt.VIR_DOMAIN_AFFECT_CONFIG] if domain.isPersistent() else []
    sides += [libvirt.VIR_DOMAIN_AFFECT_LIVE] if domain.isActive() else []
    differs = False
    for side in sides:
        try:
            before = domain.metadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, None, side)
        except libvirt.libvirtError as fault:
            if fault.get_error_code() not in _NO_METADATA:
                raise
            continue
        after = rewrite(before)
        if after != before:
            differs = True
            if change:
                domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, after or None, None, None, side)
    return differs


def all_tags(connection: libvirt.virConnect) -> dict[str, tuple[str, ...]]:
    """The tags of every domain, by UUID."""
    domains = connection.listAllDomains()
    persistent = _having(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    found = {}
    for domain in domains:
        uuid = domain.UUIDString()
        try:
            found[uuid] = _tags(domain, uuid in persistent)
        except libvirt.libvirtError as fault:
            # Undefined between the listing and the look at it.
            if fault.get_error_code() not in _GONE:
                raise
    return found


def _tags(domain: libvirt.virDomain, persistent: bool) -> tuple[str, ...]:
    element = _metadata(domain, ns.TAGS, persistent)
    return () if element is None else tuple(metadata.read(element))


def refuse_protected(domain: libvirt.virDomain, what: str, code: int) -> None:
    """Raises ArchipelError where a declaration protects the machine from being ``what``: "stopped" or "removed"."""
    machine = _metadata(domain, ns.DECLARATION, bool(domain.isPersistent()))
    if machine is not None and metadata.protects(machine):
        raise ArchipelError(metadata.refusal(domain.name(), what), code)


def check_removable(connection: libvirt.virConnect, uuid: str, code: int) -> None:
    """Raises ArchipelError for a machine that is protected; one that is not defined is not."""
    try:
        domain = connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() not in _GONE:
            raise
        return
    refuse_protected(domain, "removed", code)


def _metadata(domain: libvirt.virDomain, namespace: str, persistent: bool) -> domain_xml.Element | None:
    """The element of the definition; where there is none, of what runs."""
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if persistent else libvirt.VIR_DOMAIN_AFFECT_LIVE
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, flags)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() not in _NO_METADATA:
            raise
        return None
    return domain_xml.parse(text, "the metadata")


def change_media(connection: libvirt.virConnect, uuid: str, target: str, source: str) -> None:
    """Put the medium ``source`` (a <disk/> of a definition) into the drive ``target`` of a running domain."""
    domain = connection.lookupByUUIDString(uuid)
    live = domain_xml.parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
    drives = [disk for disk in live.findall("devices/disk") if disk.find("target").get("dev") == target]
    if not drives:
        # Added to the definition while the domain ran; the next start brings both.
        return
    drive = drives[0]
    wanted = domain_xml.parse(source, "the disk")
    for name in ("source", "backingStore"):
        for old in drive.findall(name):
            drive.remove(old)
    drive.set("type", wanted.get("type"))
    drive.extend(wanted.findall("source"))
    domain.updateDeviceFlags(domain_xml.serialise(drive), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def start(connection: libvirt.virConnect, uuid: str, paused: bool) -> None:
    """Start the domain; nothing happens to one that is active."""
    _start(connection.lookupByUUIDString(uuid), paused)


def _start(domain: libvirt.virDomain, paused: bool) -> None:
    flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
    _do_unless(domain, lambda domain: domain.createWithFlags(flags), lambda domain: domain.isActive())


def shut_down(connection: libvirt.virConnect, uuid: str) -> None:
    """Ask the guest to shut down; nothing happens to an inactive domain."""
    _unless(connection, uuid, lambda domain: domain.shutdown(), lambda domain: not domain.isActive())


def power_off(connection: libvirt.virConnect, uuid: str) -> None:
    """Take the power; nothing happens to an inactive domain."""
    _unless(connection, uuid, lambda domain: domain.destroy(), lambda domain: not domain.isActive())


def suspend(connection: libvirt.virConnect, uuid: str) -> None:
    """Halt the processors; nothing happens to a paused domain."""
    _unless(connection, uuid, lambda domain: domain.suspend(), lambda domain: domain.state()[0] == states.PAUSED)


def resume(connection: libvirt.virConnect, uuid: str) -> None:
    """Let the processors go on; nothing happens to a running domain."""
    _unless(connection, uuid, lambda domain: domain.resume(), lambda domain: domain.state()[0] == states.RUNNING)


def wake(connection: libvirt.virConnect, uuid: str) -> None:
    """Wake a guest that put itself to sleep."""
    _unless(connection, uuid, lambda domain: domain.pMWakeup(), lambda domain: domain.state()[0] == states.RUNNING)


def save(connection: libvirt.virConnect, uuid: str) -> None:
    """Write the guest's memory into a file that the next start goes on from; nothing happens to an inactive domain."""
    _unless(connection, uuid, lambda domain: domain.managedSave(), lambda domain: not domain.isActive())


def undefine(connection: libvirt.virConnect, uuid: str) -> None:
    """Remove the definition of an inactive domain with what libvirt keeps beside it; storage stays."""
    machine = look(connection, uuid)
    if machine is None:
        return
    if machine.active:
        # Undefining an active domain would leave it running with nobody to restart it.
        raise ArchipelError("the virtual machine was started meanwhile", CODE_DECLARATION)
    definition = domain_xml.parse_domain(machine.xml)
    shared = own_files.shared(definition, others(connection, definition))
    connection.lookupByUUIDString(uuid).undefineFlags(_undefine_flags(definition, bool(shared)))


def others(connection: libvirt.virConnect, definition: domain_xml.Element) -> t.Iterator[domain_xml.Element]:
    """The definitions of all other machines; of none, where ``definition`` has no files of its own."""
    if not own_files.own(definition):
        return
    uuid = domain_xml.text_of(definition, "uuid")
    for domain in connection.listAllDomains():
        if domain.UUIDString() != uuid:
            try:
                yield domain_xml.parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            except libvirt.libvirtError as fault:
                # Undefined since the listing.
                if fault.get_error_code() not in _GONE:
                    raise


def _undefine_flags(definition: domain_xml.Element, shared: bool) -> int:
    """``shared``: another machine names a file of this one, which stays then."""
    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    boot = definition.find("os")
    if boot is not None and (boot.get("firmware") or boot.find("loader") is not None or boot.find("nvram") is not None):
        place = own_files.stated_variables(definition)
        own = not place or posixpath.dirname(posixpath.normpath(place)) == own_files.NVRAM
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM if own and not shared else libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    if definition.find("devices/tpm") is not None:
        flags |= getattr(libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0)
    return int(flags)


def _unless(
    connection: libvirt.virConnect,
    uuid: str,
    act: t.Callable[[libvirt.virDomain], object],
    reached: t.Callable[[libvirt.virDomain], object],
) -> None:
    _do_unless(connection.lookupByUUIDString(uuid), act, reached)


def _do_unless(
    domain: libvirt.virDomain,
    act: t.Callable[[libvirt.virDomain], object],
    reached: t.Callable[[libvirt.virDomain], object],
) -> None:
    """Act, unless what is wanted came about by itself."""
    try:
        act(domain)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or not reached(domain):
            raise
