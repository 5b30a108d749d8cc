# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a definition will become: overlay, have libvirt's own driver complete it, compare like with like."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from archipel_protocol.errors import LibvirtError

from . import domain_xml, merge, overlay
from .devices import IMPLICIT
from .domain_xml import Element
from .wanted import Desired

# Completes a definition; None where only the daemon can tell.
Normalise = t.Callable[[str, str], t.Awaitable["str | None"]]
# Numbers that libvirt may keep as others, say the memory as the sum of the NUMA nodes.
_NUMBERS = ("memory", "currentMemory", "vcpu", "vcpu/@current", "devices/video/model/@vram")
# What libvirt says at a start only: where it has put a socket.
_LATER = frozenset(("devices/channel/source", "devices/channel/source/@mode"))
# Parts of a folder shared by virtiofs that one shared by 9p does not have (formatdomain.html#filesystems).
_VIRTIOFS = ("driver", "binary", "idmap")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A definition to be. ``exact``: libvirt's own driver made it, so the daemon will keep it as it is.

    ``changes`` from what there is, where somebody has looked.
    """

    definition: Element
    exact: bool
    changes: tuple[domain_xml.Change, ...] | None = None


class Foretold(t.NamedTuple):
    """What a declaration comes to: ``prediction`` None where a definition stays as it is.

    ``ignored`` are the paths of what is stated and libvirt does not keep.
    """

    prediction: Prediction | None
    ignored: tuple[str, ...] = ()


def ignored(stated: Element, candidate: Element, kept: Element) -> tuple[str, ...]:
    """The paths of what ``stated`` brought into ``candidate`` and libvirt left out of what it has ``kept``, or changed.

    libvirt reads what it knows and says nothing of the rest, be it a slip of the pen or newer than this libvirt.
    """
    said = _said(stated)
    missing = said - _LATER - _among(said, kept)
    if missing:
        missing &= _among(said, candidate)
    told = {path for path in missing if path.rpartition("/")[0] not in missing}
    told.update(path for path in _NUMBERS if path in said and _is_other(path, stated, candidate, kept))
    return tuple(sorted(told))


def _is_other(path: str, stated: Element, candidate: Element, kept: Element) -> bool:
    """Whether libvirt has kept a stated number as another one; not where several could be meant."""
    if path in ("memory", "currentMemory") and kept.find("devices/memory") is not None:
        return False  # libvirt counts such modules in
    place, dummy, name = path.partition("/@")
    values = []
    for domain in (stated, candidate, kept):
        found = domain.findall(place)
        text = found[0].get(name) if name and found else domain_xml.text_of(domain, place)
        if len(found) != 1 or not (text or "").isdigit():
            return False
        values.append(domain_xml.kibibytes(found[0]) if path in ("memory", "currentMemory") else int(text))
    return values[0] == values[1] != values[2]


def _said(domain: Element) -> set[str]:
    """Names of elements and attributes below <domain/>, with those around them; metadata is its owners' business.

    Without what states that there is none: elements that are empty (merge.merge), but for features, limits of 0, ports
    of -1, and "default".
    """
    found: set[str] = set()
    stack = [("", child) for child in domain if child.tag != "metadata"]
    while stack:
        path, element = stack.pop()
        if _says_nothing(element) and path != "features/":
            continue
        path += element.tag.rpartition("}")[2]
        found.add(path)
        found.update(f"{path}/@{name}" for name, value in element.attrib.items() if value not in ("-1", "default"))
        stack += [(path + "/", child) for child in element]
    return found


def _says_nothing(element: Element) -> bool:
    """Whether an element states that there is none; limits of 0 are none."""
    if element.tag == "iotune":
        return all(map(_says_nothing, element))
    text = (element.text or "").strip()
    return not (len(element) or element.attrib or (text and (text != "0" or element.getparent().tag != "iotune")))


def _among(said: t.Container[str], domain: Element) -> set[str]:
    """Those of the paths ``said`` that ``domain`` has; with each of them, its parents are said."""
    found: set[str] = set()
    stack = [("", child) for child in domain if child.tag != "metadata"]
    while stack:
        path, element = stack.pop()
        path += element.tag.rpartition("}")[2]
        if path not in said:
            continue
        found.add(path)
        found.update(place for name in element.keys() if (place := f"{path}/@{name}") in said)
        stack += [(path + "/", child) for child in element]
    return found


async def creation(
    desired: Desired, wanted: Element, defaults: Element | None, domain_type: str, normalise: Normalise
) -> Foretold:
    """The definition of a machine that does not exist yet; ``domain_type`` counts where none is stated."""
    candidate = overlay.create(desired.uuid, desired.name, wanted, defaults, desired.exact)
    if not candidate.get("type"):
        candidate.set("type", domain_type)
    completed = await _complete(candidate, normalise)
    if completed is None:
        return Foretold(Prediction(candidate, False))
    return Foretold(Prediction(completed, _is_certain(completed)), ignored(wanted, candidate, completed))


async def change(existing: Element, desired: Desired, wanted: Element, normalise: Normalise) -> Foretold:
    """What becomes of the definition ``existing`` (INACTIVE and SECURE).

    The cheap questions come first: most declarations state what is there already.
    """
    name = domain_xml.text_of(existing, "name")
    candidate = overlay.overlay(existing, wanted, name, desired.exact)
    if domain_xml.equal(candidate, existing):
        return Foretold(None)
    if _loses_implicit(existing, candidate, desired.exact):
        # Only libvirt can tell whether it would add them again.
        alone = await _alone(existing, name, wanted, normalise)
        candidate = overlay.overlay(existing, wanted, name, desired.exact, alone)
        if domain_xml.equal(candidate, existing):
            return Foretold(None)
    try:
        completed = await _complete(candidate, normalise)
    except LibvirtError:
        if await _counts_by_itself(existing, name, wanted, normalise):
            return Foretold(None, ignored(wanted, candidate, existing))
        raise
    if completed is None:
        return Foretold(Prediction(candidate, False))
    left = ignored(wanted, candidate, completed)
    found = tuple(domain_xml.changes(existing, completed))
    # Changes know no order.
    same = not found and domain_xml.equal(completed, existing)
    if same or await _counts_by_itself(existing, name, wanted, normalise):
        return Foretold(None, left)
    foretold = Foretold(Prediction(completed, _is_certain(completed), found), left)
    if _is_stated(domain_xml.each_change(existing, candidate), found):
        return foretold
    # What libvirt would rewrite anyway, say in the definition of an older version, is nobody's wish.
    untouched = await _complete_if_possible(existing, normalise)
    if untouched is not None and domain_xml.equal(completed, untouched):
        return Foretold(None, left)
    return foretold


def _loses_implicit(existing: Element, candidate: Element, exact: frozenset[str]) -> bool:
    """Whether ``candidate`` lacks a device of a class in ``exact`` that libvirt may have added to ``existing``."""
    if not exact & IMPLICIT:
        return False
    before, after = (domain_xml.device_keys(domain_xml.devices_of(one)) for one in (existing, candidate))
    return any(key[0] in exact & IMPLICIT for key in set(before).difference(after))


def _is_stated(stated: t.Iterable[domain_xml.Change], found: t.Iterable[domain_xml.Change]) -> bool:
    """Whether the changes that are ``found`` are those that are ``stated``, so that none of them is libvirt's idea.

    Most are of this kind, and to see it costs less than another question to libvirt. Its own is what it adds to a new
    device, and what it puts in the place of something that went.
    """

    def mark(change: domain_xml.Change) -> tuple[str, str | None]:
        return change.path, change.before and change.after

    marks = {mark(one) for one in found}
    rest, gone = set(marks), []
    for one in stated:
        rest.discard(mark(one))
        if marks and not rest:
            return True
        if one.after is None:
            gone.append(one.path + "/")
    return len(rest) < len(marks) and all((path + "/").startswith(tuple(gone)) for path, dummy in rest)


async def _counts_by_itself(existing: Element, name: str, wanted: Element, normalise: Normalise) -> bool:
    """Whether ``wanted`` is a whole definition, and the existing one.

    An overlay can keep too much of what libvirt once added.
    """
    alone = await _alone(existing, name, wanted, normalise)
    return alone is not None and domain_xml.equal(alone, existing)


async def _alone(existing: Element, name: str, wanted: Element, normalise: Normalise) -> Element | None:
    """``wanted`` completed by itself as the same machine; None where it is none."""
    if not overlay.is_complete(wanted):
        return None
    candidate = overlay.with_identity(existing, wanted, name)
    if not candidate.get("type"):
        candidate.set("type", existing.get("type"))
    return await _complete_if_possible(candidate, normalise)


async def _complete_if_possible(candidate: Element, normalise: Normalise) -> Element | None:
    try:
        return await _complete(candidate, normalise)
    except LibvirtError:
        return None


async def _complete(candidate: Element, normalise: Normalise) -> Element | None:
    taken: list[tuple[str, list[Element]]] = []
    if _virtiofs(candidate):
        # The driver of another user than root refuses to look at it; what 9p shares is the same to all else.
        candidate = copy.deepcopy(candidate)
        taken = [_taken(folder) for folder in _virtiofs(candidate)]
    completed = await _asked(candidate, normalise)
    if completed is not None and len(completed.findall("devices/console")) > 1:
        # libvirt numbers them anew when it reads what it has written.
        completed = await _asked(completed, normalise)
    if completed is not None and taken:
        places = {domain_xml.attribute_of(one, "target", "dir"): one for one in completed.findall("devices/filesystem")}
        for target, parts in taken:
            for tag in _VIRTIOFS:
                merge.drop(places[target], tag)
            places[target][:0] = parts
    return completed


def _virtiofs(domain: Element) -> list[Element]:
    folders = domain.findall("devices/filesystem")
    return [one for one in folders if domain_xml.attribute_of(one, "driver", "type") == "virtiofs"]


def _taken(folder: Element) -> tuple[str, list[Element]]:
    """(its target, the parts that make it one of virtiofs), which are taken out of it."""
    parts = [part for part in folder if part.tag in _VIRTIOFS]
    for part in parts:
        folder.remove(part)
    return domain_xml.attribute_of(folder, "target", "dir"), parts


def _is_certain(completed: Element) -> bool:
    """Whether libvirt's driver has seen all of it."""
    return not _virtiofs(completed)


async def _asked(candidate: Element, normalise: Normalise) -> Element | None:
    try:
        completed = await normalise(domain_xml.serialise(candidate), candidate.get("type", ""))
    except LibvirtError as fault:
        # What needs the root's daemon, the driver of another user refuses to look at.
        if "session mode" not in fault.message:
            raise
        return None
    return None if completed is None else domain_xml.parse_domain(completed, "the completed definition")
