# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a virtual machine's network interfaces.

Private to this collection; it may change without notice. Format of the XML:
https://libvirt.org/formatdomain.html#network-interfaces
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree as ET

from . import _xml

Spec = t.Mapping[str, t.Any]

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_RATE = {"type": "dict", "options": {part: {"type": "int"} for part in ("average", "peak", "burst")}}
_WAYS = ("inbound", "outbound")

OPTIONS: dict[str, dict[str, t.Any]] = {
    "networks": {
        "type": "list",
        "elements": "dict",
        "options": {
            "network": {"type": "str"},
            "bridge": {"type": "str"},
            "direct": {"type": "str"},
            "direct_mode": {"type": "str", "choices": ["bridge", "vepa", "private", "passthrough"]},
            "user": {"type": "bool", "default": False},
            "mac": {"type": "str"},
            "model": {"type": "str"},
            "filter": {"type": "str"},
            "link": {"type": "str", "choices": ["up", "down"]},
            "bandwidth": {"type": "dict", "options": dict.fromkeys(_WAYS, _RATE)},
        },
    },
}


def problems(spec: Spec) -> t.Iterator[str]:
    """Why these options cannot be meant: a sentence each, beginning with the option's path."""
    seen: dict[str, str] = {}
    for index, network in enumerate(spec["networks"] or []):
        where = f"networks[{index}]"
        if len(_links(network)) != 1:
            yield (
                f"{where}: give one of network (one of libvirt's), bridge (one of the host's), direct (a network "
                "device of the host) and user"
            )
        if network["direct_mode"] is not None and network["direct"] is None:
            yield f"{where}.direct_mode: means nothing without direct"
        yield from _mac_problems(where, network["mac"], seen)
        for way in _WAYS:
            rate = (network["bandwidth"] or {}).get(way)
            if rate is not None:
                yield from _rate_problems(f"{where}.bandwidth.{way}", rate)


def devices(spec: Spec) -> t.Iterator[ET.Element]:
    """The interfaces, in their order."""
    for network in spec["networks"] or []:
        (kind,) = _links(network)
        element = ET.Element("interface", type=kind)
        if network["mac"] is not None:
            _xml.add(element, "mac", address=network["mac"].lower())
        if kind == "direct":
            _xml.add(element, "source", dev=network["direct"], mode=network["direct_mode"])
        elif kind != "user":
            _xml.add(element, "source", **{kind: network[kind]})
        _xml.add_if(element, "model", type=network["model"])
        _xml.add_if(element, "filterref", filter=network["filter"])
        _xml.add_if(element, "link", state=network["link"])
        if network["bandwidth"] is not None:
            bandwidth = _xml.add(element, "bandwidth")
            for way in _WAYS:
                _xml.add_if(bandwidth, way, **(network["bandwidth"][way] or {}))
        yield element


def _links(network: Spec) -> list[str]:
    """What the interface is said to be connected to."""
    return [kind for kind in ("network", "bridge", "direct", "user") if network[kind] not in (None, False)]


def _mac_problems(where: str, stated: str | None, seen: dict[str, str]) -> t.Iterator[str]:
    if stated is None:
        return
    mac = stated.lower()
    if mac.isdigit():
        # YAML 1.1, sexagesimal integers (https://yaml.org/type/int.html): 52:54:00:00:00:01 is 41135040001.
        yield f"{where}.mac: '{mac}' was taken for a number; put the address into quotes"
    elif not _MAC.match(mac):
        yield f"{where}.mac: '{stated}' is not of the form 52:54:00:12:34:56"
    elif int(mac[:2], 16) & 1:
        yield f"{where}.mac: '{stated}' is a multicast address"
    elif mac in seen:
        yield f"{where}.mac: '{stated}' is that of {seen[mac]}"
    seen.setdefault(mac, where)


def _rate_problems(where: str, rate: Spec) -> t.Iterator[str]:
    if rate["average"] is None:
        yield f"{where}: needs average, in KiB a second"
    for part, number in rate.items():
        if number is not None and number < 1:
            yield f"{where}.{part}: must be at least 1"
