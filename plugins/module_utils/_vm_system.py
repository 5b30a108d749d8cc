# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a virtual machine besides its devices: memory, processors, board, boot, clock, words for people.

Private to this collection; it may change without notice. Format of the XML: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree as ET

from . import _sizes, _xml

Spec = t.Mapping[str, t.Any]

_LIFECYCLE = ["destroy", "restart", "preserve", "rename-restart"]
_CPU_LIST = re.compile(r"\^?\d+(?:-\d+)?(?:,\^?\d+(?:-\d+)?)*\Z")
_TEXTS = ("title", "description", "on_poweroff", "on_reboot", "on_crash")
_TOPOLOGY = ("sockets", "cores", "threads")

# What stands in a definition.
OPTIONS: dict[str, dict[str, t.Any]] = {
    "title": {"type": "str"},
    "description": {"type": "str"},
    "metadata": {"type": "list", "elements": "str"},
    "memory": {"type": "str"},
    "max_memory": {"type": "str"},
    "memory_backing": {
        "type": "dict",
        "options": {
            "hugepages": {"type": "str"},
            "source": {"type": "str", "choices": ["anonymous", "file", "memfd"]},
            "access": {"type": "str", "choices": ["shared", "private"]},
        },
    },
    "vcpus": {"type": "int"},
    "max_vcpus": {"type": "int"},
    "cpu": {
        "type": "dict",
        "options": {
            "mode": {"type": "str", "choices": ["host-passthrough", "host-model", "maximum", "custom"]},
            "model": {"type": "str"},
            "sockets": {"type": "int"},
            "cores": {"type": "int"},
            "threads": {"type": "int"},
            "features": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "policy": {
                        "type": "str",
                        "choices": ["force", "require", "optional", "disable", "forbid"],
                        "default": "require",
                    },
                },
            },
        },
    },
    "numa": {
        "type": "list",
        "elements": "dict",
        "options": {"cpus": {"type": "str", "required": True}, "memory": {"type": "str", "required": True}},
    },
    "numa_nodes": {"type": "str"},
    "domain_type": {"type": "str", "choices": ["kvm", "qemu", "lxc", "xen", "test"]},
    "arch": {"type": "str"},
    "machine": {"type": "str"},
    "firmware": {"type": "str", "choices": ["bios", "efi"]},
    "boot": {"type": "list", "elements": "str", "choices": ["hd", "cdrom", "network", "fd"]},
    "kernel": {"type": "str"},
    "initrd": {"type": "str"},
    "cmdline": {"type": "str"},
    "clock": {
        "type": "dict",
        "options": {
            "offset": {"type": "str", "choices": ["utc", "localtime", "timezone"]},
            "timezone": {"type": "str"},
            "timers": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "present": {"type": "bool"},
                    "tickpolicy": {"type": "str", "choices": ["delay", "catchup", "merge", "discard"]},
                },
            },
        },
    },
    "on_poweroff": {"type": "str", "choices": _LIFECYCLE},
    "on_reboot": {"type": "str", "choices": _LIFECYCLE},
    "on_crash": {"type": "str", "choices": [*_LIFECYCLE, "coredump-destroy", "coredump-restart"]},
}


def problems(spec: Spec) -> t.Iterator[str]:
    """Why these options cannot be meant: a sentence each, beginning with the option's path."""
    yield from _memory_problems(spec)
    yield from _processor_problems(spec)
    yield from _numa_problems(spec)
    yield from _boot_problems(spec)
    yield from _clock_problems(spec["clock"])
    for index, element in enumerate(spec["metadata"] or []):
        try:
            tag = ET.fromstring(element).tag
        except ET.ParseError as exc:
            yield f"metadata[{index}]: is not well-formed: {exc}"
            continue
        if not tag.startswith("{"):
            yield f"metadata[{index}]: <{tag}> must be of an XML namespace of its own"


def memory_kib(spec: Spec) -> tuple[int | None, int | None]:
    """(memory, its maximum) in KiB; without a maximum of its own, the memory is that too."""
    memory = None if spec["memory"] is None else _kib(spec["memory"])
    return memory, memory if spec["max_memory"] is None else _kib(spec["max_memory"])


def lay(domain: ET.Element, spec: Spec, creating: bool) -> None:
    """Lays what is stated over ``domain``, with what a new machine gets besides if ``creating``."""
    if spec["domain_type"] is not None:
        domain.set("type", spec["domain_type"])
    for option in _TEXTS:
        if spec[option] is not None:
            _xml.put(domain, option, spec[option])
    for element in spec["metadata"] or []:
        _xml.child(domain, "metadata").append(ET.fromstring(element))
    memory, maximum = memory_kib(spec)
    if memory is not None:
        _xml.put(domain, "memory", maximum, unit="KiB")
        _xml.put(domain, "currentMemory", memory, unit="KiB")
    if spec["vcpus"] is not None:
        _xml.put(domain, "vcpu", spec["max_vcpus"] or spec["vcpus"], current=spec["vcpus"])
    _lay_backing(domain, spec["memory_backing"])
    _lay_processor(domain, spec, creating)
    if spec["numa_nodes"] is not None:
        _xml.child(_xml.child(domain, "numatune"), "memory").set("nodeset", spec["numa_nodes"])
    _lay_boot(domain, spec)
    _lay_clock(domain, spec["clock"])


def _kib(text: str) -> int:
    return _sizes.parse(text) // 1024


def _memory_problems(spec: Spec) -> t.Iterator[str]:
    sizes = {option: spec[option] for option in ("memory", "max_memory")}
    for index, cell in enumerate(spec["numa"] or []):
        sizes[f"numa[{index}].memory"] = cell["memory"]
    found = [*_kib_problems(sizes)]
    yield from found
    if spec["max_memory"] is not None:
        if spec["memory"] is None:
            yield "max_memory: needs memory, to tell how much of it the guest has now"
        elif not found and _kib(spec["max_memory"]) < _kib(spec["memory"]):
            yield "max_memory: '{max_memory}' is less than the memory, '{memory}'".format(**spec)
    if not found and spec["xml"] is None:  # which may have modules of memory besides
        yield from _cell_problems(spec)
    backing = spec["memory_backing"] or {}
    if backing.get("hugepages"):
        yield from _sizes.problems("memory_backing.hugepages", backing["hugepages"])


def _cell_problems(spec: Spec) -> t.Iterator[str]:
    """libvirt takes the sum for the memory, whatever is stated of that."""
    cells, whole = spec["numa"] or [], spec["memory"] if spec["max_memory"] is None else spec["max_memory"]
    size = sum(_sizes.parse(cell["memory"]) for cell in cells)
    if cells and whole is not None and size != _sizes.parse(whole):
        option = "memory" if spec["max_memory"] is None else "max_memory"
        yield f"numa: the nodes have {_sizes.text(size)} in all, and must have what {option} says, '{whole}'"


def _kib_problems(sizes: t.Mapping[str, str | None]) -> t.Iterator[str]:
    for option, text in sizes.items():
        found = list(_sizes.problems(option, text))
        yield from found
        if text is not None and not found and _sizes.parse(text) % 1024:
            yield f"{option}: '{text}' is no whole number of KiB"


def _processor_problems(spec: Spec) -> t.Iterator[str]:
    for option in ("vcpus", "max_vcpus"):
        if spec[option] is not None and spec[option] < 1:
            yield f"{option}: must be at least 1"
    if spec["max_vcpus"] is not None:
        if spec["vcpus"] is None:
            yield "max_vcpus: needs vcpus, to tell how many of them the guest has now"
        elif spec["max_vcpus"] < spec["vcpus"]:
            yield "max_vcpus: {max_vcpus} is less than vcpus, {vcpus}".format(**spec)
    cpu = spec["cpu"]
    if cpu is None:
        return
    if cpu["model"] is not None and cpu["mode"] not in (None, "custom"):
        yield "cpu.model: means nothing in the mode {mode}, which takes the host's processor".format(**cpu)
    if cpu["mode"] == "custom" and cpu["model"] is None:
        yield "cpu.model: is needed in the mode custom"
    parts = [cpu[part] for part in _TOPOLOGY if cpu[part] is not None]
    for part in _TOPOLOGY:
        if cpu[part] is not None and cpu[part] < 1:
            yield f"cpu.{part}: must be at least 1"
    product = 1
    for number in parts:
        product *= number
    whole = spec["max_vcpus"] or spec["vcpus"]
    if parts and whole is not None and product != whole:
        yield f"cpu: sockets x cores x threads are {product}, and the virtual processors at most {whole}"


def _numa_problems(spec: Spec) -> t.Iterator[str]:
    for index, cell in enumerate(spec["numa"] or []):
        if not _CPU_LIST.match(cell["cpus"]):
            yield "numa[{}].cpus: '{}' is no list of processors such as 0-3,8".format(index, cell["cpus"])
    if spec["numa_nodes"] is not None and not _CPU_LIST.match(spec["numa_nodes"]):
        yield "numa_nodes: '{}' is no list of the host's nodes such as 0-1".format(spec["numa_nodes"])


def _boot_problems(spec: Spec) -> t.Iterator[str]:
    boot = spec["boot"] or []
    for device in sorted({device for device in boot if boot.count(device) > 1}):
        yield f"boot: {device} is there twice"
    for option in ("kernel", "initrd"):
        path = spec[option]
        if path and not path.startswith("/"):
            yield f"{option}: '{path}' must be an absolute path on the hypervisor"
    for option in ("initrd", "cmdline"):
        if spec[option] and spec["kernel"] == "":
            yield f"{option}: means nothing without kernel"


def _clock_problems(clock: Spec | None) -> t.Iterator[str]:
    if clock is not None and (clock["timezone"] is not None) != (clock["offset"] == "timezone"):
        yield "clock.timezone: goes with the offset timezone, and only with it"


def _lay_backing(domain: ET.Element, backing: Spec | None) -> None:
    if backing is None:
        return
    parent = _xml.child(domain, "memoryBacking")
    if backing["hugepages"] is not None:
        _xml.add(_xml.add(parent, "hugepages"), "page", size=_kib(backing["hugepages"]), unit="KiB")
    if backing["source"] is not None:
        _xml.add(parent, "source", type=backing["source"])
    if backing["access"] is not None:
        _xml.add(parent, "access", mode=backing["access"])


def _lay_processor(domain: ET.Element, spec: Spec, creating: bool) -> None:
    cpu, cells = spec["cpu"] or {}, spec["numa"] or []
    if not cpu and not cells:
        return
    element = _xml.child(domain, "cpu")
    mode = "custom" if cpu.get("model") else cpu.get("mode")
    element.attrib.update(_xml.stated(mode=mode))
    if cpu.get("model"):
        _xml.put(element, "model", cpu["model"], fallback="forbid" if creating else None)
    if any(cpu.get(part) for part in _TOPOLOGY):
        numbers = {part: _xml.value(cpu[part] or 1) for part in _TOPOLOGY}
        _xml.child(element, "topology").attrib.update(numbers)
    for feature in cpu.get("features") or []:
        _xml.add(element, "feature", policy=feature["policy"], name=feature["name"])
    for index, cell in enumerate(cells):
        size = {"memory": _kib(cell["memory"]), "unit": "KiB"}
        _xml.add(_xml.child(element, "numa"), "cell", id=index, cpus=cell["cpus"], **size)


def _lay_boot(domain: ET.Element, spec: Spec) -> None:
    if spec["arch"] is not None or spec["machine"] is not None:
        kind = _xml.child(_xml.child(domain, "os"), "type")
        kind.attrib.update(_xml.stated(arch=spec["arch"], machine=spec["machine"]))
    if spec["firmware"] is not None:
        # Empty is the agent's word for a machine without any.
        _xml.child(domain, "os").set("firmware", "efi" if spec["firmware"] == "efi" else "")
    for option in ("kernel", "initrd", "cmdline"):
        if spec[option] is not None:
            _xml.put(_xml.child(domain, "os"), option, spec[option])
    for device in spec["boot"] or []:
        _xml.add(_xml.child(domain, "os"), "boot", dev=device)


def _lay_clock(domain: ET.Element, clock: Spec | None) -> None:
    if clock is None:
        return
    element = _xml.child(domain, "clock")
    element.attrib.update(_xml.stated(offset=clock["offset"], timezone=clock["timezone"]))
    for timer in clock["timers"] or []:
        _xml.add(element, "timer", **timer)
