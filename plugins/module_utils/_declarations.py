# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many declarations at once: their options, what they have in common, what is wrong with and between them.

Private to this collection; it may change without notice. Documented in plugins/doc_fragments/vm.py (``LIST``).
"""

from __future__ import annotations

import typing as t

from . import _spec
from ._schedule import Order
from ._spec import Spec


def element_spec() -> dict[str, dict[str, t.Any]]:
    """The options of one element of ``vms``: those of a machine, and those that relate it to others."""
    return {
        **_spec.argument_spec(),
        "depends_on": {"type": "list", "elements": "str"},
        "boot_group": {"type": "int", "default": 0},
    }


def merged(defaults: t.Mapping[str, t.Any], own: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """``own`` over ``defaults``: dictionaries key by key, at any depth; a list, or another value, in its place.

    A value of None takes the default away.
    """
    found = dict(defaults)
    for key, value in own.items():
        if isinstance(value, t.Mapping) and isinstance(found.get(key), t.Mapping):
            value = merged(found[key], value)
        found[key] = value
    return {key: value for key, value in found.items() if value is not None}


def problems(specs: t.Sequence[Spec | None], labels: t.Sequence[str]) -> list[str]:
    """All that is wrong with ``specs``, None for one that cannot be read; ``labels`` says where each one stands."""
    found: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for index, spec in enumerate(specs):
        if spec is None:
            continue
        where = _where(spec, labels[index])
        found.extend(where + problem for problem in _spec.problems(spec))
        for key in ("name", "uuid"):
            value = spec.get(key)
            if value is None:
                continue
            # libvirt tells names apart by case, and UUIDs not.
            other = seen.setdefault((key, value.lower() if key == "uuid" else value), index)
            if other != index:
                found.append(f"{where}{key} '{value}' is that of {labels[other]} too")
    return [*found, *_dependency_problems(specs, labels)]


def _where(spec: Spec, label: str) -> str:
    name = _spec.label(spec)
    return f"{label} ({name}): " if spec.get("name") or spec.get("uuid") else f"{label}: "


def _dependency_problems(specs: t.Sequence[Spec | None], labels: t.Sequence[str]) -> t.Iterator[str]:
    indices = _indices(specs)
    for index, spec in enumerate(specs):
        for name in (None if spec is None else spec.get("depends_on")) or ():
            if name not in indices:
                yield f"{_where(spec, labels[index])}depends_on: '{name}' is the name of none of these declarations"
            elif (specs[indices[name]]["boot_group"] or 0) > (spec["boot_group"] or 0):
                yield f"{_where(spec, labels[index])}depends_on: '{name}' is in a later boot_group"
    for cycle in _cycles(order(specs).after):
        names = [specs[index]["name"] for index in cycle]
        first = _where(specs[cycle[0]], labels[cycle[0]])
        yield "{}depends_on: goes in a circle: {}".format(first, " needs ".join([*names, names[0]]))


def _cycles(after: t.Mapping[int, t.Collection[int]]) -> t.Iterator[list[int]]:
    """Each circle once, beginning with its lowest number. A machine may be in several; one of them is told."""
    state: dict[int, int] = {}  # 1: on the way, 2: done
    for start in sorted(after):
        if start in state:
            continue
        path, ways = [start], [iter(sorted(after[start]))]
        state[start] = 1
        while path:
            step = next(ways[-1], None)
            if step is None:
                state[path.pop()] = 2
                ways.pop()
            elif step not in state:
                state[step] = 1
                path.append(step)
                ways.append(iter(sorted(after.get(step, ()))))
            elif state[step] == 1:
                circle = path[path.index(step) :]
                lowest = circle.index(min(circle))
                yield circle[lowest:] + circle[:lowest]


def _indices(specs: t.Sequence[Spec | None]) -> dict[str, int]:
    """Where the names stand; of one that is there twice, which is a problem of its own, the first."""
    found: dict[str, int] = {}
    for index, spec in enumerate(specs):
        if spec is not None and spec.get("name"):
            found.setdefault(spec["name"], index)
    return found


def order(specs: t.Sequence[Spec | None]) -> Order:
    """Who comes before whom; names that are none are left out."""
    indices = _indices(specs)
    after: dict[int, set[int]] = {}
    groups: dict[int, int] = {}
    for index, spec in enumerate(specs):
        if spec is None:
            continue
        needed = {indices[name] for name in spec.get("depends_on") or () if name in indices}
        if needed:
            after[index] = needed
        groups[index] = spec.get("boot_group") or 0
    return Order(after, groups)
