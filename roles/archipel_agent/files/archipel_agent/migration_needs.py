# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine that is to move needs of its target, and what keeps it where it is; asked of libvirt at the source."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import typing as t

from archipel_protocol.errors import MalformedRequest

from . import domain_xml, own_files
from .domain_xml import Element, attribute_of, text_of
from .libvirt_facade import libvirt
from .wanted import Migration

# Parts of a definition that the target looks at. The rest, which may hold more than it needs to know, stays here.
_PARTS = ("name", "memory", "currentMemory", "os", "devices")
_DEVICES = ("disk", "interface", "hostdev", "filesystem")
# libvirt leaves such a medium behind where the target has none (formatdomain.html#hard-drives-floppy-disks-cdroms).
_DROPPED = ("optional", "requisite")
# Where the agent's unit shows it own_files.NVRAM, whose parent is closed to it; the files stay closed.
_NVRAM_SHOWN = "/run/archipel/nvram"
# Where libvirt keeps the states of emulated TPMs, a folder for each machine.
_TPM = "/var/lib/libvirt/swtpm"
# The first libvirt, as libvirt counts, with these ways to compress; an older one says so only when it is to begin.
_COMPRESSION_SINCE = 9_001_000
_NEW_COMPRESSION = ("zlib", "zstd")


@dataclasses.dataclass(frozen=True)
class Copy:
    """A disk that migration may copy: its target (vda), the path of its file, and its bytes as the guest sees them."""

    target: str
    path: str
    capacity: int


@dataclasses.dataclass(frozen=True)
class Needs:
    """What the target is told.

    ``domain`` is the part of the definition that it looks at. ``cpu`` is the processor that the guest runs on now, ""
    where that is none of the target's business; ``host_cpu`` tells that it is this host's own. ``host_access``: who
    asks for the move has this permission.
    """

    domain: str
    live: bool
    cpu: str = ""
    host_cpu: bool = False
    copies: tuple[Copy, ...] = ()
    host_access: bool = False


def encode(needs: Needs) -> dict[str, t.Any]:
    """As it goes over the wire."""
    return dataclasses.asdict(needs)


def decode(content: t.Any) -> Needs:
    """Raises MalformedRequest."""
    kinds = {"domain": str, "live": bool, "cpu": str, "host_cpu": bool, "copies": (list, tuple), "host_access": bool}
    if not isinstance(content, dict) or set(content) != set(kinds):
        raise MalformedRequest(f"'needs' must be an object with {', '.join(sorted(kinds))}")
    for key, kind in kinds.items():
        if not isinstance(content[key], kind):
            raise MalformedRequest(f"'needs.{key}' has the wrong type")
    copies = []
    for one in content["copies"]:
        try:
            copies.append(Copy(str(one["target"]), str(one["path"]), int(one["capacity"])))
        except (TypeError, KeyError, ValueError):
            raise MalformedRequest("'needs.copies' must be a list of target, path and capacity") from None
    return Needs(**{**content, "copies": tuple(copies)})


def look(connection: libvirt.virConnect, uuid: str, migration: Migration, off: bool) -> tuple[Needs, list[str]]:
    """(what is needed, what speaks against it here). In a thread. ``off``: as if the machine was."""
    domain = connection.lookupByUUIDString(uuid)
    live = bool(domain.isActive()) and not off
    tree = domain_xml.parse_domain(domain.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE))
    problems = list(_obstacles(domain, tree, live))
    if live and migration.compression in _NEW_COMPRESSION and connection.getLibVersion() < _COMPRESSION_SINCE:
        problems.append(f"migration.compression: {migration.compression} needs libvirt 9.1 or newer on this host")
    copies: list[Copy] = []
    if migration.copy_storage and live:
        copies = [
            Copy(attribute_of(disk, "target", "dev"), path, domain.blockInfo(path)[0])
            for disk in tree.findall("devices/disk")
            if (path := attribute_of(disk, "source", "file")) and _is_copied(disk)
        ]
    processor, is_host = _processor(connection, tree, live)
    return Needs(_excerpt(tree, {one.target for one in copies}), live, processor, is_host, tuple(copies)), problems


def _obstacles(domain: libvirt.virDomain, tree: Element, live: bool) -> t.Iterator[str]:
    snapshots = domain.snapshotNum() if domain.connect().getType() == "QEMU" else 0
    if snapshots:
        yield f"it has {snapshots} snapshots, which cannot move; delete them first"
    if not live:
        if domain.hasManagedSaveImage():
            yield "its memory is saved in a file of this host, which would be lost; start it, or declare it stopped"
        yield from _kept_beside(tree)
        return
    for device in [*tree.findall("devices/hostdev"), *tree.findall("devices/interface[@type='hostdev']")]:
        label = device.find("alias")
        name = "" if label is None else f" {label.get('name')}"
        yield f"the device{name} of this host is passed through to the guest; it can move while it is stopped"
    for folder in tree.findall("devices/filesystem"):
        path = attribute_of(folder, "source", "dir") or attribute_of(folder, "target", "dir")
        yield f"the guest has the folder {path} of this host; it can move while it is stopped"


def _kept_beside(tree: Element) -> t.Iterator[str]:
    """What libvirt keeps beside a definition from the first start on, and moves with the memory of a guest only."""
    variables = [path for path in own_files.own(tree) if posixpath.dirname(path) == own_files.NVRAM]
    folder = _NVRAM_SHOWN if os.path.isdir(_NVRAM_SHOWN) else own_files.NVRAM
    if any(_may_exist(posixpath.join(folder, posixpath.basename(path))) for path in variables):
        yield "its firmware's variables are in a file of this host, which would stay here; it can move while it runs"
    emulated = tree.find("devices/tpm/backend[@type='emulator']")
    # Elsewhere than in libvirt's own folder it is where the definition says, as disks are.
    if emulated is not None and emulated.find("source") is None and _may_exist(f"{_TPM}/{text_of(tree, 'uuid')}"):
        yield "the state of its TPM is in a folder of this host, which would be lost; it can move while it runs"


def _may_exist(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # nobody knows, and what is lost is lost
    return True


def _is_copied(disk: Element) -> bool:
    return (
        disk.get("device", "disk") == "disk"
        and disk.get("type") == "file"
        and disk.find("readonly") is None
        and disk.find("shareable") is None
    )


def _processor(connection: libvirt.virConnect, tree: Element, live: bool) -> tuple[str, bool]:
    """(<cpu/> or "", whether it is the host's own processor rather than one that is put together for the guest)"""
    cpu = tree.find("cpu")
    if connection.getType() != "QEMU" or not live or cpu is None or cpu.get("check") == "none":
        return "", False
    if cpu.get("mode") in ("host-passthrough", "maximum"):
        host = domain_xml.parse(connection.getCapabilities(), "the capabilities").find("host/cpu")
        return ("", False) if host is None else (domain_xml.serialise(host), True)
    if cpu.find("model") is None:
        return "", False
    return domain_xml.serialise(cpu), False


def _excerpt(tree: Element, copied: t.Container[str]) -> str:
    """The parts that the target looks at; disks that are copied need no file there. Takes ``tree`` apart."""
    for part in list(tree):
        if part.tag not in _PARTS:
            tree.remove(part)
    boot, variables = tree.find("os"), tree.find("os/nvram")
    if variables is not None and not os.path.exists(own_files.stated_variables(tree)):
        boot.remove(variables)  # they are made from their template at the first start, wherever that is
    devices = tree.find("devices")
    for device in [] if devices is None else list(devices):
        kept = device.tag in _DEVICES
        if device.tag == "disk":
            kept = attribute_of(device, "target", "dev") not in copied
            kept = kept and attribute_of(device, "source", "startupPolicy") not in _DROPPED
        if not kept:
            devices.remove(device)
        if device.tag == "interface" and attribute_of(device, "source", "network"):
            device.set("type", "network")  # of one that runs, libvirt shows what the network made of it here
    return domain_xml.serialise(domain_xml.without_secrets(tree))
