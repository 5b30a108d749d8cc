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
    pending:
      description:
        - Number of those, besides, whose definition is as declared, and that run without a part of it until their next
          start.
      type: int
      sample: 0
    unknown:
      description: Number of those that could not be compared.
      type: int
      sample: 0
    undeclared:
      description:
        - The virtual machines that are managed and not declared, of where
          O(archipel.platform.archipel_fleet#module:purge) looks. They are not counted above.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the virtual machine.
          type: str
          sample: old
        hypervisor:
          description: Where it is.
          type: str
          sample: hv2
        state:
          description: Its state.
          type: str
          sample: running
        actions:
          description: What O(archipel.platform.archipel_fleet#module:purge) would do to it.
          type: list
          elements: str
          sample: []
        error:
          description: Why that could not be foreseen, empty if it was.
          type: str
          sample: ""
    silent:
      description: Hypervisors that did not answer, of where O(archipel.platform.archipel_fleet#module:purge) looks.
      type: list
      elements: dict
      contains:
        hypervisor:
          description: Its name.
          type: str
          sample: hv3
        reason:
          description: Why it did not answer.
          type: str
          sample: the agent of hv3 is offline; start archipel-agent there
    vms:
      description: Those that differ, wait for their next start, or could not be compared.
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
        restart_required:
          description: What it does not have until its next start, though it runs.
          type: list
          elements: str
          sample:
            - memory changes from 1GiB to 2GiB at the next start
        error:
          description: Why it could not be compared, empty if it was.
          type: str
          sample: ""
    table:
      description: The same for people, in lines.
      type: str
      sample: |
        VIRTUAL MACHINE  HYPERVISOR  DRIFT
        web1             hv1         define (memory), start

        1 of 3 virtual machines drifted: web1
"""

import typing as t

from ansible.errors import AnsibleFilterError

_HEAD = ("VIRTUAL MACHINE", "HYPERVISOR", "DRIFT")
# Options that actions of their own are for.
_NAMED = {"state", "hypervisor", "tags", "autostart"}


def drift(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The report of a registered result."""
    if not isinstance(result, t.Mapping) or "vms" not in result:
        raise AnsibleFilterError("drift: this is not the result of archipel_fleet, or no hypervisor was asked")
    purged = {vm["uuid"]: vm for vm in result.get("undeclared") or []}
    declared = [vm for vm in result["vms"] if (vm.get("vm") or {}).get("uuid") not in purged]
    names: dict[str, list[str]] = {"drifted": [], "pending": [], "unknown": []}
    vms = []
    for vm in declared:
        kind = _kind(vm)
        if kind is not None:
            names[kind].append(vm["name"])
            vms.append(_row(vm))
    touched = {(vm.get("vm") or {}).get("uuid"): vm for vm in result["vms"]}
    undeclared = [_undeclared_row(vm, touched.get(uuid, {})) for uuid, vm in purged.items()]
    silent = [dict(one) for one in result.get("silent") or []]
    report = {
        "compared": len(declared),
        **{kind: len(found) for kind, found in names.items()},
        "summary": _summary(len(declared), names, undeclared, silent),
        "vms": vms,
        "undeclared": undeclared,
        "silent": silent,
    }
    return {**report, "table": _table(report)}


def _kind(vm: t.Mapping[str, t.Any]) -> str | None:
    """As which of the report's numbers a declared machine counts, if as one."""
    if vm.get("error"):
        return "unknown"
    if vm.get("changed"):
        return "drifted"
    return "pending" if vm.get("restart_required") else None


def _row(vm: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    # Its own: two machines may have one name, where one of them is to be gone.
    diff = vm.get("diff") or {}
    return {
        "name": vm["name"],
        "hypervisor": (vm.get("vm") or {}).get("hypervisor", ""),
        "actions": list(vm.get("actions") or []),
        "before": dict(diff.get("before") or {}),
        "after": dict(diff.get("after") or {}),
        "restart_required": list(vm.get("restart_required") or []),
        "error": vm.get("error") or "",
    }


def _undeclared_row(vm: t.Mapping[str, t.Any], touched: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        **{key: vm[key] for key in ("name", "hypervisor", "state")},
        "actions": list(touched.get("actions") or []),
        "error": touched.get("error") or "",
    }


def _summary(
    compared: int,
    names: t.Mapping[str, t.Sequence[str]],
    undeclared: t.Sequence[t.Mapping[str, t.Any]],
    silent: t.Sequence[t.Mapping[str, t.Any]],
) -> str:
    parts = []
    for kind, words in (
        ("drifted", f"{{}} of {compared} virtual machines drifted: {{}}"),
        ("pending", f"{{}} of {compared} need a restart to be as they are declared: {{}}"),
        ("unknown", "{} could not be compared: {}"),
    ):
        if names[kind]:
            parts.append(words.format(len(names[kind]), ", ".join(names[kind])))
    if not compared:
        parts.append("nothing was compared: no virtual machine is declared, or a limit leaves none")
    elif not parts:
        parts.append(f"no drift: {compared} virtual machines are as they are declared")
    if undeclared:
        names = ", ".join(vm["name"] for vm in undeclared)
        parts.append(f"{len(undeclared)} not declared: {names}")
    if silent:
        parts.append("{} did not answer".format(", ".join(one["hypervisor"] for one in silent)))
    return "; ".join(parts)


def _table(report: t.Mapping[str, t.Any]) -> str:
    rows = [(vm["name"], vm["hypervisor"] or "-", _words(vm)) for vm in report["vms"]]
    for vm in report["undeclared"]:
        rows.append((vm["name"], vm["hypervisor"], ", ".join(["not declared, {}".format(vm["state"]), *_done(vm)])))
    rows += [("-", one["hypervisor"], "not known: {}".format(one["reason"])) for one in report["silent"]]
    if not rows:
        return str(report["summary"])
    widths = [max(len(row[column]) for row in (_HEAD, *rows)) for column in (0, 1)]
    lines = ["{}  {}  {}".format(row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]) for row in (_HEAD, *rows)]
    return "\n".join([*lines, "", report["summary"]])


def _done(vm: t.Mapping[str, t.Any]) -> list[str]:
    return [vm["error"]] if vm["error"] else vm["actions"]


def _words(vm: t.Mapping[str, t.Any]) -> str:
    if vm["error"]:
        return "not known: " + vm["error"]
    touched = {*vm["before"], *vm["after"]}
    # What is new is defined as a whole. The other actions name what they are about.
    options = ", ".join(sorted(touched - _NAMED)) if vm["hypervisor"] else ""
    words = [f"{one} ({options})" if one == "define" and options else one for one in vm["actions"]]
    return ", ".join([*(words or sorted(touched)), *vm["restart_required"]])


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"drift": drift}
