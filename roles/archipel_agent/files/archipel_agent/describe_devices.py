# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The devices of a definition in the terms of archipel_vm's options; never with a secret."""

from __future__ import annotations

import typing as t

from . import domain_xml
from .devices import is_seed
from .domain_xml import SECRET_SET, Element, attribute_of, text_of

Terms = t.Dict[str, t.Any]


def terms(domain: Element) -> Terms:
    """The terms that tell of devices; None or empty where there is none."""
    found = domain.find("devices")
    devices = domain.makeelement("devices") if found is None else found
    drives = [disk for disk in devices.findall("disk") if _is_drive(disk) and not is_seed(disk)]
    return {
        "disks": [_disk(disk) for disk in devices.findall("disk") if not _is_drive(disk)],
        "cloud_init": SECRET_SET if any(is_seed(disk) for disk in devices.findall("disk")) else None,
        "cdrom": _place(drives[0]) if drives else None,
        "networks": [_network(interface) for interface in devices.findall("interface")],
        "graphics": [_graphics(graphics) for graphics in devices.findall("graphics")],
        "video": {"model": attribute_of(devices, "video/model", "type")} if devices.find("video") is not None else None,
        "serials": [_character(serial) for serial in devices.findall("serial")],
        "channels": [
            _stated(name=attribute_of(channel, "target", "name"), type=channel.get("type"))
            for channel in devices.findall("channel")
        ],
        "watchdog": _attributes(devices.find("watchdog"), "model", "action"),
        "rng": _rng(devices.find("rng")),
        "tpm": _tpm(devices.find("tpm")),
        "filesystems": [
            {
                "driver": "virtiofs" if attribute_of(share, "driver", "type") == "virtiofs" else "9p",
                "source": attribute_of(share, "source", "dir"),
                "target": attribute_of(share, "target", "dir"),
            }
            for share in devices.findall("filesystem")
        ],
        "host_devices": [domain_xml.key_label(key) for key in domain_xml.device_keys(devices.findall("hostdev"))],
    }


def _stated(**values: t.Any) -> Terms:
    return {name: value for name, value in values.items() if value not in (None, "", {}, [])}


def _attributes(device: Element | None, *names: str) -> Terms:
    return {} if device is None else _stated(**{name: device.get(name) for name in names})


def _is_drive(disk: Element) -> bool:
    return disk.get("device") in ("cdrom", "floppy")


def _disk(disk: Element) -> Terms:
    limits = disk.find("iotune")
    terms = _stated(
        target=attribute_of(disk, "target", "dev"),
        bus=attribute_of(disk, "target", "bus"),
        format=attribute_of(disk, "driver", "type"),
        cache=attribute_of(disk, "driver", "cache"),
        io=attribute_of(disk, "driver", "io"),
        discard=attribute_of(disk, "driver", "discard"),
        serial=text_of(disk, "serial"),
        limits={}
        if limits is None
        else {limit.tag: int(limit.text or "0") for limit in limits if limit.text.isdigit()},
    )
    if disk.get("type") == "volume":
        terms.update(pool=attribute_of(disk, "source", "pool"), volume=attribute_of(disk, "source", "volume"))
    elif _place(disk):
        terms["path"] = _place(disk)
    return terms


def _place(disk: Element) -> str:
    """Where a disk's content is: a path, or what comes nearest to one."""
    source = disk.find("source")
    if source is None:
        return ""
    if disk.get("type") == "volume":
        return f"{source.get('pool')}/{source.get('volume')}"
    if disk.get("type") == "network":
        return f"{source.get('protocol')}:{source.get('name', '')}"
    return next((source.get(name) for name in ("file", "dev", "dir") if source.get(name)), "")


def _network(interface: Element) -> Terms:
    kind = interface.get("type", "")
    terms = _stated(
        mac=attribute_of(interface, "mac", "address"),
        model=attribute_of(interface, "model", "type"),
        filter=attribute_of(interface, "filterref", "filter"),
        link=attribute_of(interface, "link", "state"),
        bandwidth={
            way.tag: {part: int(rate) for part, rate in way.attrib.items()} for way in interface.findall("bandwidth/*")
        },
    )
    if kind in ("network", "bridge"):
        terms[kind] = attribute_of(interface, "source", kind)
    elif kind == "direct":
        terms["direct"] = attribute_of(interface, "source", "dev")
    elif kind == "user":
        terms["user"] = True
    else:
        terms["type"] = kind
    return terms


def _graphics(graphics: Element) -> Terms:
    fixed = graphics.get("autoport") != "yes" and graphics.get("port", "-1") != "-1"
    return _stated(
        type=graphics.get("type"),
        listen=graphics.get("listen") or attribute_of(graphics, "listen", "address"),
        port=int(graphics.get("port")) if fixed else None,
        password=SECRET_SET if graphics.get("passwd") else "",
    )


def _character(device: Element) -> Terms:
    source = device.find("source")
    terms = _stated(type=device.get("type"))
    if source is not None:
        service = source.get("service", "")
        port = int(service) if service.isdigit() else service
        terms.update(_stated(path=source.get("path"), host=source.get("host"), port=port))
    return terms


def _rng(rng: Element | None) -> Terms:
    if rng is None:
        return {}
    backend, rate = rng.find("backend"), _attributes(rng.find("rate"), "bytes", "period")
    builtin = backend is not None and backend.get("model") == "builtin"
    terms = _stated(source="builtin" if builtin else text_of(rng, "backend"))
    return {**terms, **{f"rate_{part}": int(number) for part, number in rate.items()}}


def _tpm(tpm: Element | None) -> Terms:
    return {} if tpm is None else _stated(model=tpm.get("model"), version=attribute_of(tpm, "backend", "version"))
