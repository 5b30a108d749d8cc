# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lay stated devices over existing ones, so that a device nobody named keeps its address."""

from __future__ import annotations

import copy
import itertools
import string
import typing as t

from archipel_protocol.errors import MalformedRequest

from . import domain_xml
from .domain_xml import Element, attribute_of
from .merge import drop, merge

# The prefix of a disk's name in the guest, by bus; libvirt guesses the bus from it.
_TARGET_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd", "fdc": "fd", "xen": "xvd"}

# Of a disk that states none. Every x86 machine can have SATA.
_DISK_BUS = {"disk": "virtio", "cdrom": "sata", "floppy": "fdc"}
# What libvirt chooses on x86 (formatdomain.html#input-devices).
_INPUT_BUS = {"mouse": "ps2", "keyboard": "ps2", "tablet": "usb"}

# What archipel_vm's options say of a new device, where libvirt's own choice is another, or none: an attribute, by its
# tag and type (None: any), and a child, by its tag.
_OF_A_NEW: dict[tuple[str, str | None], tuple[str, str]] = {
    ("serial", None): ("type", "pty"),
    ("channel", None): ("type", "unix"),
    ("rng", None): ("model", "virtio"),
    ("hostdev", "pci"): ("managed", "yes"),
    ("hostdev", "usb"): ("managed", "yes"),
    ("hostdev", "mdev"): ("model", "vfio-pci"),
}
_CHILD_OF_A_NEW = {"interface": ("model", {"type": "virtio"}), "filesystem": ("driver", {"type": "virtiofs"})}
_PORTS = frozenset(("port", "tlsPort", "autoport"))

# How the volumes of cloud-init's seeds are called; they don't end in .iso, or people would take them for CD images.
SEED_SUFFIX = "-cloud-init.img"
SEED = "seed"

Key = t.Tuple[str, ...]
Pairs = t.List[t.Tuple[Element, t.Optional[Element]]]

# libvirt adds these by itself (formatdomain.html#devices).
IMPLICIT = frozenset(("audio", "console", "controller", "emulator", "input", "memballoon", "video", "watchdog"))
# What a <source/> points at.
_SOURCES = frozenset(("network", "bridge", "dev", "file", "pool", "volume", "name", "path", "protocol", "dir"))
# Buses that a machine type of another family does not have, or numbers in another way.
_BUILT_IN_CONTROLLERS = frozenset(("pci", "ide", "sata", "fdc", "usb"))
_CHARACTER = frozenset(("serial", "parallel", "console", "channel", "redirdev", "smartcard"))


def overlay(domain: Element, wanted: Element, exact: frozenset[str], implied: frozenset[Key]) -> None:
    """Lay the devices of the domain ``wanted`` over those of ``domain``, in place.

    Existing devices of a class in ``exact`` that are not stated are removed, unless libvirt itself would add them
    (``implied``), and new ones are completed as archipel_vm's options say. A cdrom or floppy is no disk in this sense,
    and a drive with a seed of cloud-init is no cdrom.
    """
    stated = domain_xml.devices_of(wanted)
    container = domain.find("devices")
    if container is None:
        if not stated:
            return
        container = domain.makeelement("devices")
        domain.append(container)
    if stated or exact:
        _lay(container, stated, exact, implied)
    _release_console(container, "serial" in exact)
    _release_audio(container, stated)


def _lay(container: Element, stated: list[Element], exact: frozenset[str], implied: frozenset[Key]) -> None:
    existing = list(container)
    place_disks(stated, existing, "disk" in exact)
    keys = dict(zip(domain_xml.device_keys(existing), existing))
    pairs = _match(keys, stated, exact)
    matched = {id(found) for dummy, found in pairs if found is not None}
    for key, device in keys.items():
        removable = _class_of(device) in exact and id(device) not in matched
        if removable and not (device.tag in IMPLICIT and key in implied):
            container.remove(device)
    for device, found in pairs:
        if found is None:
            new = copy.deepcopy(device)
            if device.tag in exact:
                _complete(new)
            _insert(container, new)
        else:
            _merge_device(found, device)


def forget_topology(domain: Element) -> None:
    """Drop the addresses and controllers of a machine whose board is replaced; libvirt makes up new ones."""
    container = domain.find("devices")
    if container is None:
        return
    for device in list(container):
        if device.tag == "controller" and device.get("type") in _BUILT_IN_CONTROLLERS:
            container.remove(device)
            continue
        address = device.find("address")
        if address is not None and address.get("type") in ("pci", "drive", "usb", "isa"):
            device.remove(address)


def match_interfaces(existing: list[Element], stated: list[Element], by_position: bool) -> Pairs:
    """(stated interface, the existing one that it means or None), in the order of ``stated``.

    A MAC address decides where both have it; then type, source and, where stated, model; then, only where the stated
    list is complete, what is left over in its order.
    """
    left = list(existing)
    found: dict[int, Element] = {}
    links = {id(one): _link(one) for one in (*existing, *stated)}

    def same_link(old: Element, interface: Element) -> bool:
        return _same_link(links[id(old)], links[id(interface)])

    def take(interface: Element, candidates: t.Iterable[Element]) -> None:
        candidate = next(iter(candidates), None)
        if candidate is not None:
            found[id(interface)] = candidate
            left.remove(candidate)

    for interface in stated:
        address = links[id(interface)].mac
        same = [old for old in left if address and links[id(old)].mac == address]
        take(interface, sorted(same, key=lambda old: not same_link(old, interface)))
    for interface in stated:
        if id(interface) not in found and not links[id(interface)].mac:
            take(interface, (old for old in left if same_link(old, interface)))
    for interface in stated:
        if by_position and id(interface) not in found:
            take(interface, [old for old in left if same_link(old, interface)] or left[:1])
    return [(interface, found.get(id(interface))) for interface in stated]


def _match(existing: dict[Key, Element], stated: list[Element], exact: frozenset[str]) -> Pairs:
    interfaces = match_interfaces(
        [device for device in existing.values() if device.tag == "interface"],
        [device for device in stated if device.tag == "interface"],
        "interface" in exact,
    )
    by_interface = {id(interface): found for interface, found in interfaces}
    for device in stated:
        if device.tag == "input" and not device.get("bus") and device.get("type") in _INPUT_BUS:
            device.set("bus", _INPUT_BUS[device.get("type")])
    pairs: Pairs = []
    for key, device in zip(domain_xml.device_keys(stated), stated):
        if device.tag == "interface":
            pairs.append((device, by_interface[id(device)]))
        else:
            pairs.append((device, existing.get(key)))
    return pairs


def place_disks(stated: list[Element], existing: list[Element], exact: bool) -> None:
    """Give each stated disk without a target the one of the existing disk that it means, or a free one, in place.

    A disk means the existing one with its source, a cdrom the first drive that is not stated by its target. Where the
    stated list is complete (``exact``), targets of disks that are to go are free.
    """
    disks = [device for device in stated if device.tag == "disk"]
    if all(_target(disk) for disk in disks):
        return
    named = {_target(disk) for disk in disks}
    left = [device for device in existing if device.tag == "disk" and _target(device) not in named]
    nameless = [disk for disk in disks if not _target(disk)]
    for disk in list(nameless):
        meant = next((old for old in left if _means(disk, old)), None)
        if meant is not None:
            _set_target(disk, dev=_target(meant))
            left.remove(meant)
            nameless.remove(disk)
    staying = [old for old in left if not exact or _class_of(old) != "disk"]
    used = {_target(disk) for disk in (*disks, *staying)}
    going = {_target(old) for old in left} - used
    for disk in nameless:
        bus = _bus(disk) or _DISK_BUS.get(_class_of(disk), "")
        if bus not in _TARGET_PREFIX:
            raise MalformedRequest("a disk is stated without <target dev='...'/>, and its bus does not tell one")
        # A drive does not take the place of a disk: libvirt knows no such change.
        taken = used if _class_of(disk) == "disk" else used | going
        name = next(name for name in map(_TARGET_PREFIX[bus].__add__, _letters()) if name not in taken)
        used.add(name)
        _set_target(disk, dev=name, bus=bus)


def _means(disk: Element, old: Element) -> bool:
    """Whether a disk stated without a target is the existing one ``old``."""
    if _class_of(disk) != _class_of(old) or _bus(disk) not in ("", _bus(old)):
        return False
    return _class_of(disk) != "disk" or (bool(_source(old)) and _source(old) == _source(disk))


def _bus(disk: Element) -> str:
    return attribute_of(disk, "target", "bus")


def _target(disk: Element) -> str:
    return attribute_of(disk, "target", "dev")


def _set_target(disk: Element, **attributes: str) -> None:
    target = disk.find("target")
    if target is None:
        target = disk.makeelement("target")
        disk.append(target)
    target.attrib.update(attributes)


def _letters() -> t.Iterator[str]:
    """a, b, ... z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def is_seed(disk: Element) -> bool:
    """Whether a disk is a drive that holds a seed of cloud-init."""
    return disk.get("device") == "cdrom" and attribute_of(disk, "source", "file").endswith(SEED_SUFFIX)


def _class_of(device: Element) -> str:
    if device.tag == "disk" and is_seed(device):
        return SEED
    if device.tag == "disk":
        return "disk" if device.get("device", "disk") in ("disk", "lun") else str(device.get("device"))
    return str(device.tag)


class _Link(t.NamedTuple):
    """What an interface is on, and its MAC address and model where they are told."""

    mac: str
    kind: str | None
    source: dict[str, str]
    model: str


def _link(interface: Element) -> _Link:
    mac, model = attribute_of(interface, "mac", "address").lower(), attribute_of(interface, "model", "type")
    return _Link(mac, interface.get("type"), _source(interface), model)


def _same_link(first: _Link, second: _Link) -> bool:
    """Whether two interfaces are of one type, on one source and, where both tell it, of one model."""
    told = bool(first.model and second.model)
    return first[1:3] == second[1:3] and (not told or first.model == second.model)


def _source(device: Element) -> dict[str, str]:
    """What <source/> points at, without how."""
    source = domain_xml.child_of(device, "source")
    return {} if source is None else {name: value for name, value in source.items() if name in _SOURCES}


def _moved(existing: Element, stated: Element) -> bool:
    """Whether ``stated`` names another source, so that the details of the old one do not apply to it."""
    if stated.get("type", existing.get("type")) != existing.get("type"):
        return True
    return domain_xml.child_of(stated, "source") is not None and _source(existing) != _source(stated)


def _complete(device: Element) -> None:
    """State of a new device what archipel_vm's options say of one, where libvirt's own choice is another or none."""
    for place in ((device.tag, None), (device.tag, device.get("type"))):
        name, value = _OF_A_NEW.get(place, ("", ""))
        if name and device.get(name) is None:
            device.set(name, value)
    child = _CHILD_OF_A_NEW.get(device.tag)
    if child is not None and device.find(child[0]) is None:
        device.append(device.makeelement(*child))
    # VNC has a port where none is stated, SPICE has none at all then.
    if device.tag == "graphics" and device.get("type") == "spice" and not _PORTS & set(device.keys()):
        device.set("autoport", "yes")


def _insert(container: Element, device: Element) -> None:
    """Put a new device behind the last one of its kind."""
    same = container.findall(device.tag)
    if same:
        same[-1].addnext(device)
    else:
        container.append(device)


def _merge_device(existing: Element, stated: Element) -> None:
    if existing.tag == "disk":
        _before_disk(existing, stated)
    elif existing.tag == "interface":
        if _moved(existing, stated):
            drop(existing, "source", "virtualport")
    elif existing.tag in _CHARACTER:
        if stated.get("type", existing.get("type")) != existing.get("type"):
            drop(existing, "source", "protocol", "log")
    elif existing.tag == "controller" and stated.get("model", existing.get("model")) != existing.get("model"):
        drop(existing, "address", "model", "target")
    elif existing.tag == "graphics":
        _before_graphics(existing, stated)
    elif existing.tag == "filesystem":
        drivers = [attribute_of(one, "driver", "type", "path") for one in (existing, stated)]
        if stated.find("driver") is not None and drivers[0] != drivers[1]:
            drop(existing, "driver", "binary", "idmap")
    elif stated.get("model", existing.get("model")) != existing.get("model"):
        drop(existing, "address")
    merge(existing, stated)


def _before_disk(existing: Element, stated: Element) -> None:
    target = attribute_of(stated, "target", "dev")
    kinds = existing.get("device", "disk"), stated.get("device", "disk")
    if kinds[0] != kinds[1]:
        raise MalformedRequest(f"the disk {target} is a {kinds[0]} here, not a {kinds[1]}; state another target")
    if _bus(stated) not in ("", _bus(existing)):
        drop(existing, "address")
    _before_limits(existing, stated)
    source = stated.find("source")
    if source is None or not (source.attrib or len(source)):
        # A drive is stated with its medium, or empty.
        if _class_of(stated) in ("cdrom", "floppy"):
            drop(existing, "source", "backingStore")
            drop(stated, "source")
    elif _moved(existing, stated):
        drop(existing, "source", "backingStore", "mirror")


def _before_limits(existing: Element, stated: Element) -> None:
    """A limit of the whole traffic and those of its ways exclude each other (formatdomain.html#hard-drives)."""
    old, new = existing.find("iotune"), stated.find("iotune")
    if old is None or new is None:
        return
    said = {limit.tag for limit in new if (limit.text or "").strip() not in ("", "0")}
    for unit in ("bytes_sec", "iops_sec"):
        total, ways = f"total_{unit}", (f"read_{unit}", f"write_{unit}")
        gone = ways if total in said else (total,) if said.intersection(ways) else ()
        for limit in [limit for limit in old if limit.tag.startswith(gone)]:
            old.remove(limit)


def _before_graphics(existing: Element, stated: Element) -> None:
    """Ports and addresses each have two places, which must not contradict each other (formatdomain.html#graphics)."""
    if stated.get("port") is not None and stated.get("autoport") is None:
        existing.attrib.pop("autoport", None)
    elif stated.get("autoport") == "yes" and existing.get("autoport") != "yes":
        existing.attrib.pop("port", None)
        existing.attrib.pop("tlsPort", None)
    addresses = _listening(stated)
    if addresses and addresses == _listening(existing):
        stated.attrib.pop("listen", None)
        drop(stated, "listen")
    elif addresses:
        existing.attrib.pop("listen", None)
        drop(existing, "listen")


def _listening(graphics: Element) -> list[dict[str, str]]:
    """Where a display listens, as <listen/> tells it; the attribute is the short form of the first."""
    listens = [dict(listen.attrib) for listen in graphics.findall("listen")]
    if not listens and graphics.get("listen") is not None:
        listens = [{"type": "address", "address": graphics.get("listen")}]
    return listens


def _release_console(container: Element, exact: bool) -> None:
    """The first console mirrors the first serial port; only the port counts (formatdomain.html#console).

    Without a port, libvirt would make one for the console; so where there is to be none (``exact``), both go.
    """
    serial, console = container.find("serial"), container.find("console")
    if console is None or attribute_of(console, "target", "type", "serial") != "serial":
        return
    if exact if serial is None else serial.get("type") != console.get("type"):
        container.remove(console)


def _release_audio(container: Element, stated: list[Element]) -> None:
    """What libvirt added to play sound through SPICE goes with it (formatdomain.html#audio-backends)."""
    if container.find("graphics[@type='spice']") is None and not any(device.tag == "audio" for device in stated):
        for audio in container.findall("audio[@type='spice']"):
            container.remove(audio)
