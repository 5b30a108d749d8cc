# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The specification of a virtual machine: its options, and what is wrong with them.

Private to this collection; it may change without notice. Documented in plugins/doc_fragments/vm.py; _domain.py makes
domain XML of it.
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree as ET

from . import _sizes, _vm_cloud_init, _vm_devices, _vm_network, _vm_storage, _vm_system
from .archipel_protocol import declaration, jids, migration, states, tags

Spec = t.Mapping[str, t.Any]

_PARTS = (_vm_system, _vm_storage, _vm_network, _vm_devices, _vm_cloud_init)
# What stands in a definition; a declaration that has none of it says nothing about one.
DEFINITION = (*(option for part in _PARTS for option in part.OPTIONS), "xml")

_MIGRATION: dict[str, dict[str, t.Any]] = {
    "bandwidth": {"type": "str"},
    "downtime": {"type": "int"},
    "timeout": {"type": "float"},
    "timeout_action": {
        "type": "str",
        "choices": list(migration.TIMEOUT_ACTIONS),
        "default": migration.TIMEOUT_ACTIONS[0],
    },
    "auto_converge": {"type": "bool", "default": False},
    "compression": {"type": "str", "choices": list(migration.COMPRESSIONS)},
    "parallel_connections": {"type": "int"},
    "copy_storage": {"type": "bool", "default": False},
}
_MIB = 1 << 20

_NAME = re.compile(r"[^\s/\x00-\x1f](?:[^/\x00-\x1f]*[^\s/\x00-\x1f])?\Z")


def argument_spec() -> dict[str, dict[str, t.Any]]:
    """The options of one virtual machine, for AnsibleModule."""
    options: dict[str, dict[str, t.Any]] = {
        "name": {"type": "str"},
        "uuid": {"type": "str"},
        "state": {"type": "str", "choices": list(states.DESIRED), "default": "present"},
        "hypervisor": {"type": "str"},
        "migration": {"type": "dict", "options": _MIGRATION},
        "assume_lost": {"type": "list", "elements": "str"},
        "autostart": {"type": "bool"},
        "tags": {"type": "list", "elements": "str"},
        "protected": {"type": "bool"},
        "remove_disks": {"type": "str", "choices": list(states.REMOVE_DISKS), "default": states.REMOVE_DISKS[0]},
        "apply": {"type": "str", "choices": list(states.APPLY), "default": states.APPLY[0]},
        "allow_restart": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "shutdown_timeout": {"type": "float", "default": 60.0},
        "wait": {"type": "bool", "default": True},
        "wait_timeout": {"type": "float", "default": 120.0},
        "wait_for": {"type": "str", "choices": list(states.WAIT_FOR), "default": states.WAIT_FOR[0]},
        "start_delay": {"type": "float", "default": 0.0},
        "xml": {"type": "str", "no_log": True},  # it may hold passwords
    }
    for part in _PARTS:
        options.update(part.OPTIONS)
    return options


def defines(spec: Spec) -> bool:
    """Whether a declaration says anything about the definition."""
    return any(spec.get(option) is not None for option in DEFINITION)


def waits(spec: Spec) -> bool:
    """Whether it is waited for longer than until the guest runs."""
    more = spec["wait_for"] != states.WAIT_FOR[0] or spec["start_delay"] > 0
    return bool(spec["wait"] and more and spec["state"] in states.UP)


def label(spec: Spec) -> str:
    """What to call a declared machine in a message."""
    return str(spec.get("name") or spec.get("uuid"))


def problems(spec: Spec) -> list[str]:
    """Why a declaration cannot be meant, whatever exists: a sentence each, beginning with the option's path."""
    found = [*_identity_problems(spec)]
    for part in _PARTS:
        found += part.problems(spec)
    found += [f"tags: {problem}" for problem in tags.problems(spec["tags"] or [])]
    return [*found, *_time_problems(spec), *_migration_problems(spec), *_xml_problems(spec)]


def migration_of(spec: Spec) -> migration.Migration:
    """What is stated of a move, in the units of the protocol."""
    stated = dict(spec["migration"] or {})
    if stated.get("bandwidth") is not None:
        stated["bandwidth"] = _sizes.parse(stated["bandwidth"]) // _MIB
    return t.cast(migration.Migration, {option: value for option, value in stated.items() if value is not None})


def _identity_problems(spec: Spec) -> t.Iterator[str]:
    name, uuid = spec.get("name"), spec.get("uuid")
    if name is None and uuid is None:
        yield "name: one of name and uuid is required"
    if name is not None and not _NAME.match(name):
        yield f"name: '{name}' must not be empty, have a '/', or begin or end with a blank"
    if uuid is not None and not jids.is_uuid(uuid.lower()):
        yield f"uuid: '{uuid}' is not a UUID such as 1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"


def _time_problems(spec: Spec) -> t.Iterator[str]:
    for option in ("shutdown_timeout", "wait_timeout", "start_delay"):
        seconds = spec[option]
        if seconds is None:
            continue
        if seconds < 0 or (seconds == 0 and option != "start_delay"):
            yield "{}: must be {} 0 seconds".format(option, "at least" if option == "start_delay" else "more than")
        elif seconds > declaration.LONGEST_WAIT:
            yield f"{option}: must be at most {declaration.LONGEST_WAIT:g} seconds, a day"


def _migration_problems(spec: Spec) -> t.Iterator[str]:
    stated = spec["migration"]
    if not stated:
        return
    bandwidth = list(_sizes.problems("bandwidth", stated["bandwidth"]))
    if stated["bandwidth"] is not None and not bandwidth and _sizes.parse(stated["bandwidth"]) % _MIB:
        bandwidth.append("bandwidth: '{}' is no whole number of MiB".format(stated["bandwidth"]))
    found = bandwidth or migration.problems(migration_of(spec))
    yield from (f"migration.{problem}" for problem in found)
    limit = spec["wait_timeout"]
    if stated["timeout"] is not None and limit is not None and stated["timeout"] >= limit:
        yield "migration.timeout: must be less than wait_timeout ({:g} s), at which the migration is given up".format(
            limit
        )


def _xml_problems(spec: Spec) -> t.Iterator[str]:
    if spec.get("xml") is None:
        return
    try:
        domain = ET.fromstring(spec["xml"])
    except ET.ParseError as exc:
        yield f"xml: is not well-formed: {exc}"
        return
    if domain.tag != "domain":
        yield f"xml: must be a <domain/>, not <{domain.tag}/>"
        return
    for option in ("name", "uuid"):
        text = (domain.findtext(option) or "").strip()
        if text and spec.get(option) is not None and text.lower() != spec[option].lower():
            yield f"xml: its <{option}> is '{text}', and the option {option} is '{spec[option]}'"
