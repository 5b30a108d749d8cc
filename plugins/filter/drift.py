# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: drift
short_description: What a fleet in check mode says about drift
version_added: 1.0.0
description:
  - Makes a report of the result of M(archipel.platform.archipel_fleet) in check mode.
  - The report has no secrets, as the result has none.
author:
  - Archipel maintainers (@archipel)
options:
  _input:
    description: The registered result.
    type: dict
    required: true
seealso:
  - module: archipel.platform.archipel_fleet
"""

EXAMPLES = r"""
- name: Compare the virtual machines with their declarations
  archipel.platform.archipel_fleet:
    vms: "{{ archipel_vms }}"
  check_mode: true
  register: compared

- name: Show what differs
  ansible.builtin.debug:
    msg: "{{ (compared | archipel.platform.drift).table }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    summary:
      description: The report in a sentence.
      type: str
      sample: "1 of 3 virtual machines drifted: web1"
    compared:
      description: Number of declared virtual machines.
      type: int
      sample: 3
    drifted:
      description: Number of those that differ from their declaration.
      type: int
      sample: 1
    unknown:
      description: Number of those that could not be compared.
      type: int
      sample: 0
    vms:
      description: Those that differ or could not be compared.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the virtual machine.
          type: str
          sample: web1
        hypervisor:
          description: Where it is, empty if it is nowhere.
          type: str
          sample: hv1
        actions:
          description: What would mend it, in the order of doing.
          type: list
          elements: str
          sample:
            - define
            - start
        before:
          description: What differs, as it is, in the terms of the options.
          type: dict
          sample:
            memory: 1GiB
            state: stopped
        after:
          description: What differs, as it is declared.
          type: dict
          sample:
            memory: 2GiB
            state: running
        error:
          description: Why it could not be compared, empty if it was.
          type: str
          sample: ""
    table:
      description: The same for people, in lines.
      type: str
      sample: |
        VIRTUAL MACHINE  HYPERVISOR  DRIFT
        web1             hv1         define, start

        1 of 3 virtual machines drifted: web1
"""

import typing as t

from ansible.errors import AnsibleFilterError

_HEAD = ("VIRTUAL MACHINE", "HYPERVISOR", "DRIFT")


def drift(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The report of a registered result."""
    if not isinstance(result, t.Mapping) or "vms" not in result:
        raise AnsibleFilterError("drift: this is not the result of archipel_fleet, or no hypervisor was asked")
    diffs = {one.get("before_header"): one for one in _listed(result.get("diff"))}
    vms = [_row(vm, diffs.get(vm["name"], {})) for vm in result["vms"] if vm.get("changed") or vm.get("error")]
    drifted = [vm["name"] for vm in vms if not vm["error"]]
    unknown = [vm["name"] for vm in vms if vm["error"]]
    report = {
        "compared": len(result["vms"]),
        "drifted": len(drifted),
        "unknown": len(unknown),
        "summary": _summary(len(result["vms"]), drifted, unknown),
        "vms": vms,
    }
    return {**report, "table": _table(vms, report["summary"])}


def _listed(diff: t.Any) -> list[t.Mapping[str, t.Any]]:
    return diff if isinstance(diff, list) else [diff or {}]


def _row(vm: t.Mapping[str, t.Any], diff: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        "name": vm["name"],
        "hypervisor": (vm.get("vm") or {}).get("hypervisor", ""),
        "actions": list(vm.get("actions") or []),
        "before": dict(diff.get("before") or {}),
        "after": dict(diff.get("after") or {}),
        "error": vm.get("error") or "",
    }


def _summary(compared: int, drifted: t.Sequence[str], unknown: t.Sequence[str]) -> str:
    parts = []
    if drifted:
        parts.append("{} of {} virtual machines drifted: {}".format(len(drifted), compared, ", ".join(drifted)))
    if unknown:
        parts.append("{} could not be compared: {}".format(len(unknown), ", ".join(unknown)))
    return "; ".join(parts) or f"no drift: {compared} virtual machines are as they are declared"


def _table(vms: t.Sequence[t.Mapping[str, t.Any]], summary: str) -> str:
    rows = [(vm["name"], vm["hypervisor"] or "-", _words(vm)) for vm in vms]
    if not rows:
        return summary
    widths = [max(len(row[column]) for row in (_HEAD, *rows)) for column in (0, 1)]
    lines = ["{}  {}  {}".format(row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]) for row in (_HEAD, *rows)]
    return "\n".join([*lines, "", summary])


def _words(vm: t.Mapping[str, t.Any]) -> str:
    if vm["error"]:
        return "not known: " + vm["error"]
    return ", ".join(vm["actions"]) or ", ".join(sorted({*vm["before"], *vm["after"]}))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"drift": drift}
