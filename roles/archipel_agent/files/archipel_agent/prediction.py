# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a definition will become: overlay, have libvirt's own driver complete it, compare like with like."""

from __future__ import annotations

import dataclasses
import typing as t

from archipel_protocol.errors import LibvirtError

from . import domain_xml, overlay
from .devices import IMPLICIT
from .domain_xml import Element
from .wanted import Desired

# Completes a definition; None where only the daemon can tell.
Normalise = t.Callable[[str, str], t.Awaitable["str | None"]]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A definition to be. ``exact``: libvirt's own driver made it, so the daemon will keep it as it is."""

    definition: Element
    exact: bool


async def creation(
    desired: Desired, wanted: Element, defaults: Element | None, domain_type: str, normalise: Normalise
) -> Prediction:
    """The definition of a machine that does not exist yet; ``domain_type`` counts where none is stated."""
    candidate = overlay.create(desired.uuid, desired.name, wanted, defaults)
    if not candidate.get("type"):
        candidate.set("type", domain_type)
    completed = await _complete(candidate, normalise)
    return Prediction(candidate, False) if completed is None else Prediction(completed, True)


async def change(existing: Element, desired: Desired, wanted: Element, normalise: Normalise) -> Prediction | None:
    """What becomes of the definition ``existing`` (INACTIVE and SECURE); None if it stays as it is.

    The cheap questions come first: most declarations state what is there already.
    """
    name = domain_xml.text_of(existing, "name")
    candidate = overlay.overlay(existing, wanted, name, desired.exact)
    if domain_xml.equal(candidate, existing):
        return None
    if _loses_implicit(existing, candidate, desired.exact):
        # Only libvirt can tell whether it would add them again.
        alone = await _alone(existing, name, wanted, normalise)
        candidate = overlay.overlay(existing, wanted, name, desired.exact, alone)
        if domain_xml.equal(candidate, existing):
            return None
    try:
        completed = await _complete(candidate, normalise)
    except LibvirtError:
        if await _counts_by_itself(existing, name, wanted, normalise):
            return None
        raise
    if completed is None:
        return Prediction(candidate, False)
    if domain_xml.equal(completed, existing) or await _counts_by_itself(existing, name, wanted, normalise):
        return None
    if _is_stated(existing, candidate, completed):
        return Prediction(completed, True)
    # What libvirt would rewrite anyway, say in the definition of an older version, is nobody's wish.
    untouched = await _complete_if_possible(existing, normalise)
    if untouched is not None and domain_xml.equal(completed, untouched):
        return None
    return Prediction(completed, True)


def _loses_implicit(existing: Element, candidate: Element, exact: frozenset[str]) -> bool:
    """Whether ``candidate`` lacks a device of a class in ``exact`` that libvirt may have added to ``existing``."""
    if not exact & IMPLICIT:
        return False
    before, after = (domain_xml.device_keys(domain_xml.devices_of(one)) for one in (existing, candidate))
    return any(key[0] in exact & IMPLICIT for key in set(before).difference(after))


def _is_stated(existing: Element, candidate: Element, completed: Element) -> bool:
    """Whether ``completed`` differs from ``existing`` only as ``candidate`` does, so that none of it is libvirt's idea.

    Most changes are of this kind, and to see it costs less than another question to libvirt. Its own is what it adds to
    a new device, and what it puts in the place of something that went.
    """

    def marks(changes: t.Iterable[domain_xml.Change]) -> set[tuple[str, str | None]]:
        return {(one.path, one.before and one.after) for one in changes}

    stated, found = domain_xml.changes(existing, candidate), domain_xml.changes(existing, completed)
    gone = tuple(one.path + "/" for one in stated if one.after is None)
    rest = marks(found) - marks(stated)
    return len(rest) < len(found) and all((path + "/").startswith(gone) for path, dummy in rest)


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
    try:
        completed = await normalise(domain_xml.serialise(candidate), candidate.get("type", ""))
    except LibvirtError as fault:
        # What needs the root's daemon, such as virtiofs, the driver of another user refuses to look at.
        if "session mode" not in fault.message:
            raise
        return None
    return None if completed is None else domain_xml.parse_domain(completed, "the completed definition")
