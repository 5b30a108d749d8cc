# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of a definition reach into the host, so that only the permission ``host_access`` allows them.

Whoever may define a domain is root on its host unless somebody looks: this is who looks. Whatever is not known to be
harmless is a reason.
"""

from __future__ import annotations

import os.path
import posixpath
import typing as t

from lxml import etree

from . import domain_xml
from .domain_xml import Element, attribute_of
from .own_files import NVRAM

ALLOWED_ROOT = "/vm"
# Firmware that comes with the distribution, read only.
_FIRMWARE = ("/usr/share/OVMF", "/usr/share/AAVMF", "/usr/share/qemu", "/usr/share/seabios", "/usr/share/edk2")
_ENTROPY = frozenset(("/dev/urandom", "/dev/random"))

# Devices with nothing to say about the host.
_HARMLESS = frozenset(
    ("controller", "hub", "iommu", "memballoon", "panic", "redirfilter", "sound", "vsock", "watchdog")
)
_HARMLESS_INPUT = frozenset(("mouse", "keyboard", "tablet"))
_SINGLE = ("source", "backend", "driver", "target", "model", "protocol")
_CHARACTER = frozenset(("serial", "parallel", "console", "channel", "redirdev", "smartcard"))
# Characters that stay between guest, libvirt and its graphics.
_HARMLESS_CHARACTERS = frozenset(("pty", "null", "vc", "spicevmc", "qemu-vdagent"))
# Type "user" is none of them: it lets a guest reach the services on its host's loopback.
_HARMLESS_INTERFACES = frozenset(("network", "bridge"))
# Images of every other format can name further files of the host: as a parent, as an extent.
_HARMLESS_FORMATS = frozenset(("raw", "qcow2"))
_HARMLESS_AUDIO = frozenset(("none", "spice"))
# Parts of a domain besides its devices that cannot name anything of the host.
_HARMLESS_PARTS = frozenset(
    (
        *("name", "uuid", "genid", "title", "description", "metadata", "memory", "currentMemory", "maxMemory"),
        *("vcpu", "vcpus", "iothreads", "iothreadids", "cputune", "cpu", "numatune", "blkiotune", "memtune"),
        *(
            "resource",
            "sysinfo",
            "features",
            "clock",
            "pm",
            "on_poweroff",
            "on_reboot",
            "on_crash",
            "on_lockfailure",
            "perf",
        ),
        *("os", "devices", "memoryBacking", "defaultiothread"),
    )
)
_HARMLESS_BOOT = frozenset(("type", "boot", "bootmenu", "bios", "smbios", "firmware", "cmdline"))
# Whole paths of these are looked at.
_BOOT_FILES = ("kernel", "initrd", "dtb", "loader", "nvram", "shim")
# Containers and others run in, or beside, the host's own kernel.
_HARMLESS_TYPES = frozenset(("qemu", "kvm", "test", "xen"))
_HARMLESS_MEMORY = frozenset(("hugepages", "nosharepages", "discard", "access", "allocation", "source"))

# What is rare is looked for in the whole definition at once.
_OF_A_NAMESPACE = etree.XPath("descendant-or-self::*[namespace-uri() or @*[namespace-uri()]]")
_WITH_ROM_FILE = etree.XPath("devices/*[descendant-or-self::rom[string(@file)]]")
_WITH_LOG = etree.XPath("devices/*[log]")

Resolve = t.Callable[[str], str]


def check(
    domain: Element,
    emulators: t.Container[str],
    allowed_root: str = ALLOWED_ROOT,
    resolve: Resolve = os.path.realpath,
    known: t.Container[str] = frozenset(),
) -> list[str]:
    """The reasons why ``domain`` needs ``host_access``; none if it needs it not.

    ``domain`` is complete, best as libvirt dumped it. ``emulators`` are those that libvirt itself would choose.
    ``resolve`` follows the host's symbolic links. ``known`` are devices that harmless() has just told.
    """

    def inside(path: str, *more: str) -> bool:
        return is_inside(path, (allowed_root, *more), resolve)

    reasons = [f"<{child.tag}> is not known to be harmless" for child in domain if child.tag not in _HARMLESS_PARTS]
    reasons += _check_foreign(domain)
    reasons += _check_boot(domain, inside)
    for part in domain.findall("memoryBacking/*"):
        if part.tag not in _HARMLESS_MEMORY or (part.tag == "source" and part.get("type") == "file"):
            reasons.append(f"<memoryBacking> has <{part.tag}{_attributes(part)}>")
    return reasons + _check_devices(domain, emulators, inside, known)


def harmless(domain: Element, allowed_root: str = ALLOWED_ROOT, resolve: Resolve = os.path.realpath) -> frozenset[str]:
    """The devices, as their texts, for which check() has no reason; none of the emulators."""

    def inside(path: str, *more: str) -> bool:
        return is_inside(path, (allowed_root, *more), resolve)

    judged = _judged(domain, inside, frozenset())
    return frozenset(domain_xml.serialise(one) for one, reasons in judged if one.tag != "emulator" and not reasons)


def _check_devices(
    domain: Element, emulators: t.Container[str], inside: t.Callable[..., bool], known: t.Container[str]
) -> list[str]:
    judged = _judged(domain, inside, known)
    own = {_content(device) for device, dummy in judged if device.tag == "emulator"}
    found = [f"<emulator> is {path}, not libvirt's own choice" for path in sorted(own) if path not in emulators]
    if any(reasons for dummy, reasons in judged):
        labels = map(domain_xml.key_label, domain_xml.device_keys(device for device, dummy in judged))
        found += [f"{label}: {reason}" for label, (dummy, reasons) in zip(labels, judged) for reason in reasons]
    return found


def _judged(domain: Element, inside: t.Callable[..., bool], known: t.Container[str]) -> list[tuple[Element, list[str]]]:
    """Each device with the reasons for which it needs ``host_access``; those of an emulator are not told here."""
    roms, logs = _WITH_ROM_FILE(domain), _WITH_LOG(domain)
    judged: list[tuple[Element, list[str]]] = []
    for device in domain_xml.devices_of(domain):
        reasons: list[str] = []
        if device.tag != "emulator" and not (known and domain_xml.serialise(device) in known):
            reasons += _check_device(device, inside)
            reasons += ["a ROM file of the host"] if device in roms else []
            reasons += ["a log file on the host"] if device in logs else []
        judged.append((device, reasons))
    return judged


def emulators(domain: Element) -> set[str]:
    """The emulators that a definition names."""
    return {_content(element) for element in domain.findall("devices/emulator")}


def is_inside(path: str, roots: t.Iterable[str] = (ALLOWED_ROOT,), resolve: Resolve = os.path.realpath) -> bool:
    """Whether an absolute path lies in one of ``roots``, before and after following the host's links."""
    forms = (posixpath.normpath(path), resolve(path))
    roots = tuple(roots)
    return path.startswith("/") and all(any(form.startswith(root + "/") for root in roots) for form in forms)


def _content(element: Element) -> str:
    """What libvirt reads as the element's text: that of the elements in it, too (XPath's string())."""
    return "".join(element.itertext()).strip()


def _attributes(element: Element) -> str:
    return "".join(f" {name}='{value}'" for name, value in element.attrib.items())


def _check_foreign(domain: Element) -> list[str]:
    """Elements and attributes of a namespace pass through to QEMU; only metadata is libvirt's to keep."""
    reasons = []
    suspects = _OF_A_NAMESPACE(domain)
    metadata = {element for place in domain.findall("metadata") for element in place.iterdescendants()}
    for element in suspects:
        foreign = [name for name in element.keys() if name.startswith("{")]
        nested = str(element.tag).startswith("{") and element.getparent() is not domain
        if not (foreign or nested) or element in metadata:
            continue
        if nested:
            reasons.append(f"<{element.tag}> is of a foreign namespace")
        reasons += [f"<{element.tag}> has the foreign attribute {name}" for name in foreign]
    return reasons


def _check_boot(domain: Element, inside: t.Callable[..., bool]) -> list[str]:
    reasons = []
    if domain.get("type") not in _HARMLESS_TYPES:
        reasons.append(f"the domain is of type {domain.get('type')}")
    for element in domain.findall("os/*"):
        if element.tag in _BOOT_FILES:
            reasons += _check_boot_file(element, inside)
        elif element.tag not in _HARMLESS_BOOT or (element.tag == "type" and _content(element) == "exe"):
            reasons.append(f"<os> has <{element.tag}>")
    if any(entry.get("file") for entry in domain.iterfind("sysinfo//entry")):
        reasons.append("<sysinfo> hands a file of the host to the guest")
    return reasons


def _check_boot_file(element: Element, inside: t.Callable[..., bool]) -> list[str]:
    # What a machine's variables begin with is only read; the variables themselves libvirt gives to QEMU to be written.
    more = {"loader": _FIRMWARE, "nvram": (NVRAM,)}.get(element.tag, ())
    sources = [source.get(name) for source in element.iter("source") for name in ("file", "dev", "dir")]
    bad = [path for path in (_content(element), *sources) if path and not inside(path, *more)]
    template = element.get("template")
    if template and not inside(template, *_FIRMWARE):
        bad.append(template)
    reasons = [f"<{element.tag}> is {path}, outside of the allowed folders" for path in bad]
    if element.get("type") in ("block", "network", "nvme"):
        reasons.append(f"<{element.tag}> is of type {element.get('type')}")
    return reasons


def _check_device(device: Element, inside: t.Callable[..., bool]) -> list[str]:
    tag = str(device.tag)
    if tag == "disk":
        reasons = _check_disk(device, inside)
    elif tag in _CHARACTER:
        reasons = _check_character(device)
    elif tag in _CHECKS:
        reasons = _CHECKS[tag](device)
    else:
        reasons = [] if tag in _HARMLESS else ["the device reaches the host, or is not known to be harmless"]
    # Whoever reads the first only, and whoever reads the last, would see different devices.
    tags = [child.tag for child in device]
    if len(set(tags)) < len(tags):
        reasons += [f"<{name}> more than once" for name in _SINGLE if tags.count(name) > 1]
    return reasons


def _check_disk(disk: Element, inside: t.Callable[..., bool]) -> list[str]:
    reasons = []
    if disk.get("device") == "lun" or disk.get("rawio") == "yes" or disk.get("sgio") is not None:
        reasons.append("raw access to a disk of the host")
    for place in (disk, *disk.iter("backingStore"), *disk.iter("mirror")):
        kind = place.get("type", "file" if place is disk else "")
        source = place.find("source")
        if source is None and place.get("file"):
            reasons.append("a mirror of the old form")
        if source is None:
            continue
        if kind != "file":
            reasons.append(f"its source is of type {kind}, not a file")
        elif not inside(source.get("file", "")):
            reasons.append(f"its source {source.get('file')} is outside of the allowed folders")
        reasons += [f"<source> has <{part.tag}>" for part in source if part.tag != "slices"]
        form = format_of(place)
        if form not in _HARMLESS_FORMATS:
            reasons.append(f"the format {form} can refer to other files")
    reasons += [f"<{name}>" for name in ("auth", "encryption") if disk.find(name) is not None]
    if disk.get("type") == "dir":
        reasons.append("a directory of the host")
    return reasons


def format_of(place: Element) -> str:
    """The format that QEMU takes for the <source/> of a <disk/>, <backingStore/> or <mirror/>."""
    return attribute_of(place, "driver" if place.tag == "disk" else "format", "type", "raw")


def _check_interface(interface: Element) -> list[str]:
    reasons = []
    if interface.get("type") not in _HARMLESS_INTERFACES:
        reasons.append(f"an interface of type {interface.get('type')}")
    for name in ("script", "downscript", "backend", "actual"):
        found = interface.find(name)
        if found is not None and (name != "backend" or found.attrib):
            reasons.append(f"<{name}>")
    if interface.find("target") is not None and interface.find("target").get("managed") is not None:
        reasons.append("a network device of the host")
    return reasons


def _check_character(device: Element) -> list[str]:
    kind = device.get("type", "pty")
    if device.tag == "smartcard" and device.get("mode") != "passthrough":
        return ["a smart card of the host"]
    source = device.find("source")
    if kind == "unix":
        # libvirt makes up the path of a channel's socket below a folder of its own.
        chosen = source is None or not source.get("path")
        return [] if device.tag == "channel" and chosen else ["a socket of the host"]
    if kind == "pty" and source is not None and source.get("path") and not source.get("path").startswith("/dev/pts/"):
        return [f"the device {source.get('path')} of the host"]
    return [] if kind in _HARMLESS_CHARACTERS else [f"a character device of type {kind}"]


def _check_graphics(graphics: Element) -> list[str]:
    reasons = []
    if graphics.get("type") not in ("vnc", "spice"):
        reasons.append("only vnc and spice stay away from the host's own display")
    if graphics.get("socket") or any(listen.get("type") == "socket" for listen in graphics.iter("listen")):
        reasons.append("a socket of the host")
    # Without a node of its own libvirt chooses one.
    if any(part.get("rendernode") or part.get("enable") != "no" for part in graphics.findall("gl")):
        reasons.append("a render node of the host")
    return reasons


def _check_tpm(device: Element) -> list[str]:
    backend = device.find("backend")
    if backend is None or (backend.get("type") == "emulator" and not len(backend)):
        return []
    return [f"a TPM of type {backend.get('type')} with a backend of the host"]


def _check_rng(device: Element) -> list[str]:
    backend = device.find("backend")
    if backend is None or backend.get("model") == "builtin":
        return []
    if backend.get("model") == "random" and (_content(backend) or "/dev/urandom") in _ENTROPY:
        return []
    return ["entropy of another source than /dev/urandom or /dev/random"]


def _check_input(device: Element) -> list[str]:
    harmless = device.get("type") in _HARMLESS_INPUT and device.find("source") is None
    return [] if harmless else ["an input device of the host"]


def _check_video(device: Element) -> list[str]:
    reasons = ["a render node of the host"] if any(part.get("rendernode") for part in device.iter()) else []
    if attribute_of(device, "driver", "name") == "vhostuser":
        reasons.append("a program of the host draws")
    return reasons


def _check_audio(device: Element) -> list[str]:
    return [] if device.get("type") in _HARMLESS_AUDIO else [f"sound of type {device.get('type')}"]


def _check_memory(device: Element) -> list[str]:
    harmless = device.get("model") in ("dimm", "virtio-mem") and device.find("source/path") is None
    return [] if harmless else ["memory in a file of the host"]


_CHECKS: dict[str, t.Callable[[Element], list[str]]] = {
    "audio": _check_audio,
    "graphics": _check_graphics,
    "input": _check_input,
    "interface": _check_interface,
    "memory": _check_memory,
    "rng": _check_rng,
    "tpm": _check_tpm,
    "video": _check_video,
}
