# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a virtual machine's disks and its CD drive.

Private to this collection; it may change without notice. Format of the XML:
https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree as ET

from . import _sizes, _xml
from .archipel_protocol.declaration import Volume

Spec = t.Mapping[str, t.Any]

# Where a bare file name of a CD image is looked for, on every hypervisor.
ISO_FOLDER = "/vm/iso"
DEFAULT_POOL = "default"
DEFAULT_FORMAT = "qcow2"
# Every x86 machine can have it, whatever its chipset.
_CDROM_BUS = "sata"
_LIMITS = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")
# What libvirt takes the kind of a secret to be, by protocol.
_SECRETS = {"rbd": "ceph", "iscsi": "iscsi"}
FILE_NAME = re.compile(r"[^/\x00-\x1f]+\Z")
_TARGET = re.compile(r"(?:vd|sd|hd|xvd)[a-z]{1,3}\Z")

OPTIONS: dict[str, dict[str, t.Any]] = {
    "disks": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str"},
            "pool": {"type": "str"},
            "volume": {"type": "str"},
            "path": {"type": "str"},
            "network": {
                "type": "dict",
                "options": {
                    "protocol": {
                        "type": "str",
                        "required": True,
                        "choices": ["rbd", "iscsi", "nbd", "gluster", "http", "https"],
                    },
                    "name": {"type": "str"},
                    "hosts": {
                        "type": "list",
                        "elements": "dict",
                        "options": {"name": {"type": "str", "required": True}, "port": {"type": "int"}},
                    },
                    "username": {"type": "str"},
                    "secret_uuid": {"type": "str", "no_log": False},  # names a secret of libvirt, and is none
                },
            },
            "size": {"type": "str"},
            "format": {"type": "str", "choices": ["qcow2", "raw"]},
            "clone": {"type": "str"},
            "backing": {"type": "str"},
            "target": {"type": "str"},
            "bus": {"type": "str", "choices": ["virtio", "scsi", "sata", "ide", "usb"]},
            "cache": {
                "type": "str",
                "choices": ["default", "none", "writethrough", "writeback", "directsync", "unsafe"],
            },
            "io": {"type": "str", "choices": ["native", "threads", "io_uring"]},
            "discard": {"type": "str", "choices": ["ignore", "unmap"]},
            "serial": {"type": "str"},
            "limits": {"type": "dict", "options": {limit: {"type": "int"} for limit in _LIMITS}},
        },
    },
    "cdrom": {"type": "str"},
}


def problems(spec: Spec) -> t.Iterator[str]:
    """Why these options cannot be meant: a sentence each, beginning with the option's path."""
    storages: dict[tuple[str, ...], str] = {}
    targets: dict[str, str] = {}
    for index, disk in enumerate(spec["disks"] or []):
        where = f"disks[{index}]"
        yield from _disk_problems(where, disk)
        storage = _storage(disk, spec["name"] or "")
        if storage and storages.setdefault(storage, where) != where:
            yield f"{where}: has the same storage as {storages[storage]}"
        target = disk["target"]
        if target is not None and targets.setdefault(target, where) != where:
            yield f"{where}.target: '{target}' is that of {targets[target]}"
    cdrom = spec["cdrom"]
    if cdrom and "/" in cdrom and not cdrom.startswith("/"):
        yield f"cdrom: '{cdrom}' must be a file's name in {ISO_FOLDER}, an absolute path, or empty for an empty drive"


def volumes(spec: Spec, name: str) -> list[Volume]:
    """The volumes that the disks of the machine ``name`` need; those with a size, or made from another."""
    found: list[Volume] = []
    for disk in spec["disks"] or []:
        if disk["size"] is None and disk["clone"] is None and disk["backing"] is None:
            continue
        volume: Volume = {
            "pool": disk["pool"] or DEFAULT_POOL,
            "name": volume_name(disk, name),
            "capacity": 0 if disk["size"] is None else _sizes.parse(disk["size"]),
            "format": disk["format"] or DEFAULT_FORMAT,
        }
        if disk["clone"] is not None:
            volume["clone"] = disk["clone"]
        if disk["backing"] is not None:
            volume["backing"] = disk["backing"]
        found.append(volume)
    return found


def volume_name(disk: Spec, vm_name: str) -> str:
    """The storage volume of a disk that has neither path nor network."""
    return disk["volume"] or "{}-{}.{}".format(vm_name, disk["name"], disk["format"] or DEFAULT_FORMAT)


def devices(spec: Spec, name: str, creating: bool) -> t.Iterator[ET.Element]:
    """The disks and the CD drive; where no target is stated, the agent finds the one that is meant, or a free one."""
    for disk in spec["disks"] or []:
        yield _disk(disk, name)
    image = spec["cdrom"]
    if image is None:
        return
    element = ET.Element("disk", type="file", device="cdrom")
    if image:
        _xml.add(element, "source", file=image if "/" in image else f"{ISO_FOLDER}/{image}")
    if creating:
        _xml.add(element, "target", bus=_CDROM_BUS)
    yield element


def _storage(disk: Spec, vm_name: str) -> tuple[str, ...]:
    """What two disks cannot both have; empty where nothing tells."""
    if disk["path"] is not None:
        return ("", disk["path"])
    if disk["network"] is not None:
        return (disk["network"]["protocol"], disk["network"]["name"] or "", str(disk["network"]["hosts"]))
    if disk["volume"] is not None or disk["name"] is not None:
        # Names of volumes begin with the machine's, which does not matter among the disks of one machine.
        return (disk["pool"] or DEFAULT_POOL, volume_name(disk, vm_name))
    return ()


def _disk_problems(where: str, disk: Spec) -> t.Iterator[str]:
    of_volumes = ("pool", "volume", "size", "name", "clone", "backing")
    for option, meaning in (("path", "an existing file or device"), ("network", "storage elsewhere")):
        others = [other for other in (*of_volumes, "path", "network") if other != option and disk[other] is not None]
        if disk[option] is not None and others:
            yield "{}: {} is {}, so {} cannot be given".format(where, option, meaning, " and ".join(others))
            break
    if disk["path"] is not None:
        if not disk["path"].startswith("/"):
            yield "{}.path: '{}' must be absolute".format(where, disk["path"])
    elif disk["network"] is None:
        yield from _volume_problems(where, disk)
    for option in ("name", "volume", "pool", "clone", "backing"):
        if disk[option] is not None and not FILE_NAME.match(disk[option]):
            yield f"{where}.{option}: '{disk[option]}' must not be empty or have a '/'"
    if disk["target"] is not None and not _TARGET.match(disk["target"]):
        yield "{}.target: '{}' is not a name such as vda or sdb".format(where, disk["target"])
    yield from _sizes.problems(f"{where}.size", disk["size"])
    yield from _limit_problems(where, disk["limits"] or {})


def _volume_problems(where: str, disk: Spec) -> t.Iterator[str]:
    made = disk["size"] is not None or disk["clone"] is not None or disk["backing"] is not None
    if disk["volume"] is None and not made:
        yield (
            f"{where}: give path (an existing file), network (storage elsewhere), volume (an existing volume), or "
            "size, clone or backing (a volume to be created)"
        )
    elif disk["volume"] is None and disk["name"] is None:
        yield f"{where}: a volume that is created needs name or volume, to be called something"
    if disk["clone"] is not None and disk["backing"] is not None:
        yield f"{where}: clone is a copy, and backing an overlay; give one of them"
    if disk["backing"] is not None and disk["format"] == "raw":
        yield f"{where}.backing: only qcow2 knows backing files, raw does not"


def _limit_problems(where: str, limits: Spec) -> t.Iterator[str]:
    for limit in _LIMITS:
        if limits.get(limit) is not None and limits[limit] < 0:
            yield f"{where}.limits.{limit}: must be at least 0, which is no limit"
    for unit in ("bytes", "iops"):
        parts = [f"{way}_{unit}_sec" for way in ("read", "write") if limits.get(f"{way}_{unit}_sec")]
        if limits.get(f"total_{unit}_sec") and parts:
            yield "{}.limits: total_{}_sec excludes {}".format(where, unit, " and ".join(parts))


def _disk(disk: Spec, name: str) -> ET.Element:
    element = ET.Element("disk", type="volume", device="disk")
    driver = {"cache": disk["cache"], "io": disk["io"], "discard": disk["discard"], "type": disk["format"]}
    if any(driver.values()):
        _xml.add(element, "driver", name="qemu", **driver)
    if disk["network"] is not None:
        _lay_network(element, disk["network"])
    elif disk["path"] is None:
        pool = disk["pool"] or DEFAULT_POOL
        _xml.add(element, "source", pool=pool, volume=volume_name(disk, name))
    elif disk["path"].startswith("/dev/"):
        element.set("type", "block")
        _xml.add(element, "source", dev=disk["path"])
    else:
        element.set("type", "file")
        _xml.add(element, "source", file=disk["path"])
    if disk["target"] is not None or disk["bus"] is not None:
        _xml.add(element, "target", dev=disk["target"], bus=disk["bus"])
    if disk["limits"]:
        _lay_limits(element, disk["limits"])
    if disk["serial"] is not None:
        _xml.put(element, "serial", disk["serial"])
    return element


def _lay_network(element: ET.Element, network: Spec) -> None:
    element.set("type", "network")
    source = _xml.add(element, "source", protocol=network["protocol"], name=network["name"])
    for host in network["hosts"] or []:
        _xml.add(source, "host", name=host["name"], port=host["port"])
    if network["username"] is not None:
        auth = _xml.add(source, "auth", username=network["username"])
        _xml.add(auth, "secret", type=_SECRETS.get(network["protocol"], "iscsi"), uuid=network["secret_uuid"])


def _lay_limits(element: ET.Element, limits: Spec) -> None:
    tune = _xml.add(element, "iotune")
    for limit in _LIMITS:
        if limits[limit] is not None:
            _xml.put(tune, limit, limits[limit])
