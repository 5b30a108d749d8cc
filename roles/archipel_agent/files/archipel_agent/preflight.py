# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a stated definition needs of this host and does not find, all of it at once, before anything changes.

libvirt itself looks at most of this only when the machine starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import typing as t

from archipel_protocol.errors import ArchipelError

from . import describe, domain_xml, host_access, installed
from .domain_xml import Element, attribute_of, text_of
from .libvirt_facade import Libvirt, libvirt
from .prediction import Normalise

_NETWORK_DEVICES = "/sys/class/net"
_PCI_DEVICES = "/sys/bus/pci/devices"
# Of these the agent has its own (PrivateTmp in its unit).
_OWN = ("/tmp/", "/var/tmp/")
# Domain types by driver; of a driver that is not here libvirt will tell.
_KINDS = {"qemu": ("qemu", "kvm"), "test": ("test",), "lxc": ("lxc",), "xen": ("xen",)}
_FILES = ("kernel", "initrd", "loader")


class Look:
    """The look at what is missing. It goes on beside the normaliser's work on the same definition, which takes longer.

    ``has_host_access``: whoever asks may learn of any path if it exists. For anybody else the devices are judged that
    the normaliser is asked about, because most of them come back from it as they are.
    """

    def __init__(self, facade: Libvirt, stated: str, has_host_access: bool) -> None:
        self._libvirt, self._stated, self._has_host_access = facade, stated, has_host_access
        self._begun: asyncio.Future[tuple[list[str], frozenset[str]]] | None = None

    def beside(self, normalise: Normalise, meanwhile: t.Callable[[], t.Awaitable[object]] | None = None) -> Normalise:
        """``normalise``, whose first question begins the look, too, and has ``meanwhile()`` done.

        An ArchipelError of that is nobody's here.
        """
        todo = [] if meanwhile is None else [meanwhile]

        async def both(xml: str, domain_type: str) -> str | None:
            self._begin("" if self._has_host_access else xml)
            answer = asyncio.ensure_future(normalise(xml, domain_type))
            try:
                # It asks, and then there is time.
                await asyncio.sleep(0)
                with contextlib.suppress(ArchipelError):
                    while todo:
                        await todo.pop()()
                return await answer
            except asyncio.CancelledError:
                answer.cancel()
                raise

        return both

    async def problems(self) -> list[str]:
        """A sentence for each thing that is missing."""
        return (await self._begin())[0]

    async def harmless(self) -> frozenset[str]:
        """The host_access.harmless() devices of the first definition that the normaliser was asked about."""
        return (await self._begin())[1]

    def _begin(self, asked: str = "") -> asyncio.Future[tuple[list[str], frozenset[str]]]:
        if self._begun is None:
            look = self._libvirt.call(_look, self._stated, self._may_see, asked)
            self._begun = asyncio.ensure_future(look)
            # Nobody asks for it where the definition turns out to stay.
            self._begun.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._begun

    def _may_see(self, path: str) -> bool:
        return self._has_host_access or host_access.is_inside(path)


def _look(
    connection: libvirt.virConnect, stated: str, may_see: t.Callable[[str], bool], asked: str
) -> tuple[list[str], frozenset[str]]:
    harmless = host_access.harmless(domain_xml.parse_domain(asked)) if asked else frozenset()
    return problems(connection, stated, may_see), harmless


def problems(connection: libvirt.virConnect, stated: str, may_see: t.Callable[[str], bool]) -> list[str]:
    """A sentence for each thing that is missing; runs in Libvirt.call().

    ``may_see`` tells whether whoever asks may learn of a path if it exists.
    """
    domain = domain_xml.parse_domain(stated)
    found = [*_kind(connection, domain), *_memory(connection, domain)]
    found += [*_networks(connection, domain), *_targets(domain)]
    paths = [text_of(domain, f"os/{tag}") for tag in _FILES]
    paths += [attribute_of(disk, "source", "file") for disk in domain.findall("devices/disk")]
    files = _missing(paths, may_see)
    places = [attribute_of(disk, "source", "dev") for disk in domain.findall("devices/disk[@type='block']")]
    places += [attribute_of(folder, "source", "dir") for folder in domain.findall("devices/filesystem")]
    places += [(backend.text or "").strip() for backend in domain.findall("devices/rng/backend[@model='random']")]
    found += [f"there is no file {path} here" for path in files]
    found += [f"there is no {path} here" for path in _missing(places, may_see)]
    return found + ([*_host_devices(connection, domain)] if may_see(_PCI_DEVICES) else [])


def _kind(connection: libvirt.virConnect, domain: Element) -> t.Iterator[str]:
    kind, kinds = domain.get("type"), _KINDS.get(connection.getType().lower(), ())
    if kind and kinds and kind not in kinds:
        yield f"domain_type: there are no machines of the type '{kind}' here, but of {' and '.join(kinds)}"


def _memory(connection: libvirt.virConnect, domain: Element) -> t.Iterator[str]:
    memory = domain.find("memory")
    if memory is None:
        return
    own, whole = domain_xml.kibibytes(memory), installed.asked(connection, _size) << 10
    if own > whole:
        yield f"the memory, {describe.size(own)}, is more than the {describe.size(whole)} of the hypervisor"


def _size(connection: libvirt.virConnect) -> int:
    """The hypervisor's memory, in MiB."""
    return int(connection.getInfo()[1])


def _networks(connection: libvirt.virConnect, domain: Element) -> t.Iterator[str]:
    interfaces = domain.findall("devices/interface")
    stated = dict.fromkeys(attribute_of(one, "source", "network") for one in interfaces if one.get("type") == "network")
    if stated:
        known = {network.name() for network in connection.listAllNetworks()}
        for name in stated:
            if name not in known:
                yield f"there is no network '{name}' here; there are: {', '.join(sorted(known))}"
    for kind, name in (("bridge", "bridge"), ("direct", "dev")):
        for device in dict.fromkeys(attribute_of(one, "source", name) for one in interfaces if one.get("type") == kind):
            if connection.getType() == "QEMU" and not _is_network_device(device):
                yield f"there is no network device '{device}' here"
    for name in dict.fromkeys(attribute_of(one, "filterref", "filter") for one in interfaces):
        if name and name not in {one.name() for one in connection.listAllNWFilters()}:
            yield f"there is no network filter '{name}' here"


def _is_network_device(name: str) -> bool:
    """No path, which would tell of the host's folders."""
    return "/" not in name and name not in ("", ".", "..") and os.path.isdir(os.path.join(_NETWORK_DEVICES, name))


def _targets(domain: Element) -> t.Iterator[str]:
    targets = [attribute_of(disk, "target", "dev") for disk in domain.findall("devices/disk")]
    for target in sorted({target for target in targets if target and targets.count(target) > 1}):
        yield f"more than one disk has the target {target}"


def _host_devices(connection: libvirt.virConnect, domain: Element) -> t.Iterator[str]:
    """Those of USB come and go."""
    for address in domain.iterfind("devices/hostdev[@type='pci']/source/address"):
        try:
            numbers = [int(address.get(part, "0"), 0) for part in ("domain", "bus", "slot", "function")]
        except ValueError:
            continue  # libvirt says so itself
        name = "pci_{:04x}_{:02x}_{:02x}_{:x}".format(*numbers)
        try:
            connection.nodeDeviceLookupByName(name)
        except libvirt.libvirtError:
            yield f"there is no device {name} here"


def _missing(paths: t.Iterable[str], may_see: t.Callable[[str], bool]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if path and _is_missing(path, may_see)]


def _is_missing(path: str, may_see: t.Callable[[str], bool]) -> bool:
    """Whether there is no such file, as far as this process can see at all."""
    if not may_see(path) or path.startswith(_OWN):
        return False
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # in a folder that this process may not enter, say, and libvirt may
    return False
