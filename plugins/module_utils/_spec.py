# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The specification of a virtual machine: its options, and what is wrong with them.

Private to this collection; it may change without notice. Documented in plugins/doc_fragments/vm.py; _domain.py makes
domain XML of it.
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree as ET

from . import _sizes
from .archipel_protocol import jids, states, tags

Spec = t.Mapping[str, t.Any]

# Where a bare file name of a CD image is looked for, on every hypervisor.
ISO_FOLDER = "/vm/iso"
DEFAULT_POOL = "default"
DEFAULT_FORMAT = "qcow2"
# What stands in a definition; a declaration that has none of it says nothing about one.
DEFINITION = (
    "memory", "vcpus", "domain_type", "disks", "cdrom", "networks", "graphics", "kernel", "initrd", "cmdline", "xml",
)  # fmt: skip

_VNC_PASSWORD = 8
_NAME = re.compile(r"[^\s/\x00-\x1f](?:[^/\x00-\x1f]*[^\s/\x00-\x1f])?\Z")
_FILE = re.compile(r"[^/\x00-\x1f]+\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")


def argument_spec() -> dict[str, dict[str, t.Any]]:
    """The options of one virtual machine, for AnsibleModule."""
    return {
        "name": {"type": "str"},
        "uuid": {"type": "str"},
        "state": {"type": "str", "choices": list(states.DESIRED), "default": "present"},
        "hypervisor": {"type": "str"},
        "memory": {"type": "str"},
        "vcpus": {"type": "int"},
        "domain_type": {"type": "str", "choices": ["kvm", "qemu"]},
        "disks": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str"},
                "pool": {"type": "str"},
                "volume": {"type": "str"},
                "path": {"type": "str"},
                "size": {"type": "str"},
                "format": {"type": "str", "choices": ["qcow2", "raw"]},
                "bus": {"type": "str", "choices": ["virtio", "scsi", "sata", "ide", "usb"]},
            },
        },
        "cdrom": {"type": "str"},
        "networks": {
            "type": "list",
            "elements": "dict",
            "options": {
                "network": {"type": "str"},
                "bridge": {"type": "str"},
                "mac": {"type": "str"},
                "model": {"type": "str", "default": "virtio"},
            },
        },
        "graphics": {
            "type": "list",
            "elements": "dict",
            "options": {
                "type": {"type": "str", "choices": ["vnc", "spice"], "default": "vnc"},
                "listen": {"type": "str"},
                "password": {"type": "str", "no_log": True},
            },
        },
        "kernel": {"type": "str"},
        "initrd": {"type": "str"},
        "cmdline": {"type": "str"},
        "autostart": {"type": "bool"},
        "tags": {"type": "list", "elements": "str"},
        "force": {"type": "bool", "default": False},
        "shutdown_timeout": {"type": "float", "default": 60.0},
        "wait": {"type": "bool", "default": True},
        "wait_timeout": {"type": "float", "default": 120.0},
        "xml": {"type": "str", "no_log": True},  # it may hold passwords
    }


def required_one_of() -> list[list[str]]:
    """What identifies a virtual machine."""
    return [["name", "uuid"]]


def defines(spec: Spec) -> bool:
    """Whether a declaration says anything about the definition."""
    return any(spec.get(option) is not None for option in DEFINITION)


def label(spec: Spec) -> str:
    """What to call a declared machine in a message."""
    return str(spec.get("name") or spec.get("uuid"))


def problems(spec: Spec) -> list[str]:
    """Why a declaration cannot be meant, whatever exists: a sentence each, beginning with the option's path."""
    return [
        *_identity_problems(spec),
        *_size_problems("memory", spec.get("memory")),
        *(["vcpus: must be at least 1"] if spec.get("vcpus") is not None and spec["vcpus"] < 1 else []),
        *_disk_problems(spec),
        *_cdrom_problems(spec.get("cdrom")),
        *_network_problems(spec.get("networks") or []),
        *_graphics_problems(spec.get("graphics") or []),
        *_boot_problems(spec),
        *(f"tags: {problem}" for problem in tags.problems(spec.get("tags") or [])),
        *_time_problems(spec),
        *_xml_problems(spec),
    ]


def volume_name(disk: Spec, vm_name: str) -> str:
    """The storage volume of a disk that has no path."""
    return disk["volume"] or "{}-{}.{}".format(vm_name, disk["name"], disk["format"] or DEFAULT_FORMAT)


def _identity_problems(spec: Spec) -> t.Iterator[str]:
    name, uuid = spec.get("name"), spec.get("uuid")
    if name is not None and not _NAME.match(name):
        yield f"name: '{name}' must not be empty, have a '/', or begin or end with a blank"
    if uuid is not None and not jids.is_uuid(uuid.lower()):
        yield f"uuid: '{uuid}' is not a UUID such as 1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"


def _size_problems(option: str, text: str | None) -> t.Iterator[str]:
    if text is None:
        return
    try:
        size = _sizes.parse(text)
    except ValueError as exc:
        yield f"{option}: {exc}"
        return
    if option == "memory" and size % 1024:
        yield f"memory: '{text}' is no whole number of KiB"


def _disk_problems(spec: Spec) -> t.Iterator[str]:
    seen: dict[tuple[str, str], str] = {}
    for index, disk in enumerate(spec.get("disks") or []):
        where = f"disks[{index}]"
        yield from _one_disk_problems(where, disk)
        if disk["path"] is not None:
            storage = ("", disk["path"])
        elif disk["volume"] is not None or disk["name"] is not None:
            # Names of volumes begin with the machine's, which does not matter among the disks of one machine.
            storage = (disk["pool"] or DEFAULT_POOL, volume_name(disk, spec.get("name") or ""))
        else:
            continue
        if storage in seen:
            yield f"{where}: has the same storage as {seen[storage]}"
        seen.setdefault(storage, where)


def _one_disk_problems(where: str, disk: Spec) -> t.Iterator[str]:
    if disk["path"] is not None:
        others = [option for option in ("pool", "volume", "size", "name") if disk[option] is not None]
        if others:
            yield "{}: path is an existing file, so {} cannot be given".format(where, " and ".join(others))
        if not disk["path"].startswith("/"):
            yield "{}.path: '{}' must be absolute".format(where, disk["path"])
    elif disk["volume"] is None and disk["size"] is None:
        yield f"{where}: give path (an existing file), volume (an existing volume) or size (a volume to be created)"
    elif disk["volume"] is None and disk["name"] is None:
        yield f"{where}: a volume that is created with size needs name or volume, to be called something"
    for option in ("name", "volume", "pool"):
        if disk[option] is not None and not _FILE.match(disk[option]):
            yield f"{where}.{option}: '{disk[option]}' must not be empty or have a '/'"
    yield from _size_problems(f"{where}.size", disk["size"])


def _cdrom_problems(cdrom: str | None) -> t.Iterator[str]:
    if cdrom and "/" in cdrom and not cdrom.startswith("/"):
        yield f"cdrom: '{cdrom}' must be a file's name in {ISO_FOLDER}, an absolute path, or empty for an empty drive"


def _network_problems(networks: t.Sequence[Spec]) -> t.Iterator[str]:
    seen: dict[str, str] = {}
    for index, network in enumerate(networks):
        where = f"networks[{index}]"
        if (network["network"] is None) == (network["bridge"] is None):
            yield f"{where}: give either network (one of libvirt's) or bridge (one of the host's)"
        mac = network["mac"]
        if mac is None:
            continue
        mac = mac.lower()
        if mac.isdigit():
            # YAML 1.1, sexagesimal integers (https://yaml.org/type/int.html): 52:54:00:00:00:01 is 41135040001.
            yield f"{where}.mac: '{mac}' was taken for a number; put the address into quotes"
        elif not _MAC.match(mac):
            yield "{}.mac: '{}' is not of the form 52:54:00:12:34:56".format(where, network["mac"])
        elif int(mac[:2], 16) & 1:
            yield "{}.mac: '{}' is a multicast address".format(where, network["mac"])
        elif mac in seen:
            yield "{}.mac: '{}' is that of {}".format(where, network["mac"], seen[mac])
        seen.setdefault(mac, where)


def _graphics_problems(graphics: t.Sequence[Spec]) -> t.Iterator[str]:
    kinds = [graphic["type"] for graphic in graphics]
    for kind in sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        yield f"graphics: only one can be of type {kind}"
    for index, graphic in enumerate(graphics):
        # RFC 6143, 7.2.2: the key of VNC's authentication is cut there.
        if graphic["type"] == "vnc" and len(graphic["password"] or "") > _VNC_PASSWORD:
            yield f"graphics[{index}].password: VNC knows passwords of at most {_VNC_PASSWORD} characters"


def _boot_problems(spec: Spec) -> t.Iterator[str]:
    for option in ("kernel", "initrd"):
        path = spec.get(option)
        if path and not path.startswith("/"):
            yield f"{option}: '{path}' must be an absolute path on the hypervisor"
    for option in ("initrd", "cmdline"):
        if spec.get(option) and spec.get("kernel") == "":
            yield f"{option}: means nothing without kernel"


def _time_problems(spec: Spec) -> t.Iterator[str]:
    for option in ("shutdown_timeout", "wait_timeout"):
        if spec[option] <= 0:
            yield f"{option}: must be more than 0 seconds"


def _xml_problems(spec: Spec) -> t.Iterator[str]:
    if spec.get("xml") is None:
        return
    try:
        domain = ET.fromstring(spec["xml"])
    except ET.ParseError as exc:
        yield f"xml: is not well-formed: {exc}"
        return
    if domain.tag != "domain":
        yield f"xml: must be a <domain/>, not <{domain.tag}/>"
        return
    for option in ("name", "uuid"):
        text = (domain.findtext(option) or "").strip()
        if text and spec.get(option) is not None and text.lower() != spec[option].lower():
            yield f"xml: its <{option}> is '{text}', and the option {option} is '{spec[option]}'"
