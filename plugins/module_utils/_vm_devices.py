# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a virtual machine's devices besides storage and network: what people see it by, and the small ones.

Private to this collection; it may change without notice. Format of the XML:
https://libvirt.org/formatdomain.html#devices
"""

from __future__ import annotations

import collections
import re
import typing as t
from xml.etree import ElementTree as ET

from . import _sizes, _xml
from .archipel_protocol import jids

Spec = t.Mapping[str, t.Any]

# Says of a single device that there is to be none.
NONE = "none"
_VNC_PASSWORD = 8
_PCI = re.compile(r"(?P<domain>[0-9a-f]{4}):(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})\.(?P<function>[0-7])\Z")
_USB = re.compile(r"(?P<vendor>[0-9a-f]{4}):(?P<product>[0-9a-f]{4})\Z")

OPTIONS: dict[str, dict[str, t.Any]] = {
    "graphics": {
        "type": "list",
        "elements": "dict",
        "options": {
            "type": {"type": "str", "choices": ["vnc", "spice"], "default": "vnc"},
            "listen": {"type": "str"},
            "port": {"type": "int"},
            "password": {"type": "str", "no_log": True},
        },
    },
    "video": {
        "type": "dict",
        "options": {
            "model": {
                "type": "str",
                "required": True,
                "choices": ["vga", "virtio", "qxl", "cirrus", "bochs", "ramfb", NONE],
            },
            "heads": {"type": "int"},
            "vram": {"type": "str"},
        },
    },
    "serials": {
        "type": "list",
        "elements": "dict",
        "options": {
            "type": {"type": "str", "choices": ["pty", "null", "file", "unix", "tcp"]},
            "path": {"type": "str"},
            "host": {"type": "str"},
            "port": {"type": "int"},
        },
    },
    "channels": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["unix", "spicevmc", "pty"]},
        },
    },
    "watchdog": {
        "type": "dict",
        "options": {
            "model": {"type": "str", "choices": ["i6300esb", "ib700", "itco", "diag288", NONE], "required": True},
            "action": {
                "type": "str",
                "choices": ["reset", "shutdown", "poweroff", "pause", "none", "dump", "inject-nmi"],
            },
        },
    },
    "rng": {
        "type": "dict",
        "options": {
            "source": {"type": "str", "required": True},
            "rate_bytes": {"type": "int"},
            "rate_period": {"type": "int"},
        },
    },
    "tpm": {
        "type": "dict",
        "options": {
            "model": {"type": "str", "choices": ["tpm-crb", "tpm-tis", "tpm-spapr", NONE], "required": True},
            "version": {"type": "str", "choices": ["1.2", "2.0"]},
        },
    },
    "filesystems": {
        "type": "list",
        "elements": "dict",
        "options": {
            "driver": {"type": "str", "choices": ["virtiofs", "9p"]},
            "source": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
        },
    },
    "host_devices": {
        "type": "list",
        "elements": "dict",
        "options": {"pci": {"type": "str"}, "usb": {"type": "str"}, "mdev": {"type": "str"}},
    },
}
# What libvirt calls them.
_FILESYSTEM_DRIVERS = {"virtiofs": "virtiofs", "9p": "path"}
_SINGLE = {"video": "model", "watchdog": "model", "rng": "source", "tpm": "model"}


def problems(spec: Spec) -> t.Iterator[str]:
    """Why these options cannot be meant: a sentence each, beginning with the option's path."""
    yield from _graphics_problems(spec["graphics"] or [])
    if spec["video"] is not None:
        yield from _sizes.problems("video.vram", spec["video"]["vram"])
    for index, serial in enumerate(spec["serials"] or []):
        yield from _serial_problems(f"serials[{index}]", serial)
    yield from _twice("channels", "name", spec["channels"])
    yield from _twice("filesystems", "target", spec["filesystems"])
    if spec["rng"] is not None:
        source = spec["rng"]["source"]
        if source not in (NONE, "builtin") and not source.startswith("/"):
            yield f"rng.source: '{source}' must be a device of the host such as /dev/urandom, builtin, or none"
        if spec["rng"]["rate_period"] is not None and spec["rng"]["rate_bytes"] is None:
            yield "rng.rate_period: means nothing without rate_bytes"
    for index, filesystem in enumerate(spec["filesystems"] or []):
        if not filesystem["source"].startswith("/"):
            yield "filesystems[{}].source: '{}' must be absolute".format(index, filesystem["source"])
    for index, device in enumerate(spec["host_devices"] or []):
        yield from _host_problems(f"host_devices[{index}]", device)


def devices(spec: Spec) -> t.Iterator[ET.Element]:
    """The stated devices."""
    for option, build in _BUILD.items():
        given = spec[option]
        for one in [given] if isinstance(given, dict) else given or []:
            if option not in ("watchdog", "rng", "tpm") or one[_SINGLE[option]] != NONE:
                yield build(one)


def _twice(option: str, part: str, stated: t.Sequence[Spec] | None) -> t.Iterator[str]:
    for value in _repeated(one[part] for one in stated or []):
        yield f"{option}: the {part} '{value}' is there twice"


def _repeated(values: t.Iterable[str]) -> list[str]:
    """What is there more than once, sorted."""
    return sorted(value for value, count in collections.Counter(values).items() if count > 1)


def _graphics_problems(graphics: t.Sequence[Spec]) -> t.Iterator[str]:
    for kind in _repeated(graphic["type"] for graphic in graphics):
        yield f"graphics: only one can be of type {kind}"
    for index, graphic in enumerate(graphics):
        # RFC 6143, 7.2.2: the key of VNC's authentication is cut there.
        if graphic["type"] == "vnc" and len(graphic["password"] or "") > _VNC_PASSWORD:
            yield f"graphics[{index}].password: VNC knows passwords of at most {_VNC_PASSWORD} characters"
        if graphic["port"] is not None and not 5900 <= graphic["port"] <= 65535:
            yield "graphics[{}].port: {} must be from 5900 to 65535".format(index, graphic["port"])


def _serial_problems(where: str, serial: Spec) -> t.Iterator[str]:
    needed = {"file": ("path",), "unix": ("path",), "tcp": ("host", "port")}.get(serial["type"], ())
    for part in ("path", "host", "port"):
        if (serial[part] is not None) != (part in needed):
            verb = "needs" if part in needed else "has no"
            kind = "without a type" if serial["type"] is None else "of type {type}".format(**serial)
            yield f"{where}: a port {kind} {verb} {part}"


def _host_problems(where: str, device: Spec) -> t.Iterator[str]:
    if sum(value is not None for value in device.values()) != 1:
        yield f"{where}: give one of pci, usb and mdev"
    if device["pci"] is not None and not _PCI.match(device["pci"].lower()):
        yield "{}.pci: '{}' is not an address such as 0000:01:00.0".format(where, device["pci"])
    if device["usb"] is not None and not _USB.match(device["usb"].lower()):
        yield "{}.usb: '{}' is not vendor and product such as 046d:c52b".format(where, device["usb"])
    if device["mdev"] is not None and not jids.is_uuid(device["mdev"].lower()):
        yield "{}.mdev: '{}' is not a UUID".format(where, device["mdev"])


def _graphics(graphic: Spec) -> ET.Element:
    element = ET.Element("graphics", type=graphic["type"])
    if graphic["port"] is not None:
        element.attrib.update(port=str(graphic["port"]), autoport="no")
    if graphic["password"] is not None:
        element.set("passwd", graphic["password"])
    if graphic["listen"] is not None:
        element.set("listen", graphic["listen"])
        _xml.add(element, "listen", type="address", address=graphic["listen"])
    return element


def _video(video: Spec) -> ET.Element:
    element = ET.Element("video")
    vram = None if video["vram"] is None else _sizes.parse(video["vram"]) // 1024
    _xml.add(element, "model", type=video["model"], heads=video["heads"], vram=vram)
    return element


def _serial(serial: Spec) -> ET.Element:
    element = ET.Element("serial", _xml.stated(type=serial["type"]))
    if serial["type"] == "tcp":
        _xml.add(element, "source", mode="bind", host=serial["host"], service=serial["port"])
        _xml.add(element, "protocol", type="raw")
    elif serial["type"] == "unix":
        _xml.add(element, "source", mode="bind", path=serial["path"])
    elif serial["type"] == "file":
        _xml.add(element, "source", path=serial["path"])
    return element


def _channel(channel: Spec) -> ET.Element:
    element = ET.Element("channel", _xml.stated(type=channel["type"]))
    _xml.add(element, "target", type="virtio", name=channel["name"])
    return element


def _watchdog(watchdog: Spec) -> ET.Element:
    return ET.Element("watchdog", _xml.stated(model=watchdog["model"], action=watchdog["action"]))


def _rng(rng: Spec) -> ET.Element:
    element = ET.Element("rng")
    _xml.add_if(element, "rate", bytes=rng["rate_bytes"], period=rng["rate_period"])
    if rng["source"] == "builtin":
        _xml.add(element, "backend", model="builtin")
    else:
        _xml.add(element, "backend", model="random").text = rng["source"]
    return element


def _tpm(tpm: Spec) -> ET.Element:
    element = ET.Element("tpm", model=tpm["model"])
    _xml.add(element, "backend", type="emulator", version=tpm["version"])
    return element


def _filesystem(filesystem: Spec) -> ET.Element:
    element = ET.Element("filesystem", type="mount")
    _xml.add_if(element, "driver", type=_FILESYSTEM_DRIVERS.get(filesystem["driver"]))
    _xml.add(element, "source", dir=filesystem["source"])
    _xml.add(element, "target", dir=filesystem["target"])
    return element


def _host_device(device: Spec) -> ET.Element:
    if device["mdev"] is not None:
        element = ET.Element("hostdev", mode="subsystem", type="mdev")
        _xml.add(_xml.add(element, "source"), "address", uuid=device["mdev"].lower())
        return element
    kind, pattern = ("pci", _PCI) if device["pci"] is not None else ("usb", _USB)
    element = ET.Element("hostdev", mode="subsystem", type=kind)
    source = _xml.add(element, "source")
    parts = t.cast("re.Match[str]", pattern.match(device[kind].lower())).groupdict()
    if kind == "pci":
        _xml.add(source, "address", **{name: f"0x{number}" for name, number in parts.items()})
    else:
        for name, number in parts.items():
            _xml.add(source, name, id=f"0x{number}")
    return element


_BUILD: dict[str, t.Callable[[Spec], ET.Element]] = {
    "graphics": _graphics,
    "video": _video,
    "serials": _serial,
    "channels": _channel,
    "watchdog": _watchdog,
    "rng": _rng,
    "tpm": _tpm,
    "filesystems": _filesystem,
    "host_devices": _host_device,
}
