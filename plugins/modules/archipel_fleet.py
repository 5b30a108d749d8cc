#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_fleet
short_description: Declare many virtual machines
version_added: 1.0.0
description:
  - Makes declared virtual machines true over all hypervisors, in one task and one XMPP session.
  - The declarations are a list, O(vms), or a directory of files, O(vms_dir). Each has the options of
    M(archipel.platform.archipel_vm), and O(vms[].depends_on) and O(vms[].boot_group).
  - With O(selector) it commands a group of virtual machines instead.
  - What is wrong with the declarations is told at once, with file and option, before anything changes. Later, a virtual
    machine that fails does not keep the others; the task fails when all are done.
  - While it works, a line is printed of each virtual machine when something is done to it, if the task runs on the
    controller. At the end, or in check mode, a line says what was done to how many, or would be.
options:
  vms_dir:
    description:
      - A directory on the controller, with the declarations in files. A path that is not absolute begins at the folder
        of the playbook.
      - Of the directory and those below it, all files are read whose name ends in C(.yml), C(.yaml) or C(.json) and
        does not begin with a dot. Each holds a declaration, or a list of them. A link to a directory is refused.
      - The files are data. No template in them is evaluated. Files and values may be encrypted with Ansible Vault.
    type: path
  defaults:
    description:
      - What counts for every declaration that does not say otherwise.
      - Where both have a dictionary, the two are merged key by key, at any depth. A list, and any other value, takes
        the place of the default as a whole; V(null) takes the default away.
      - For O(selector) and O(purge), those options count that say how something is done - C(force), C(migration),
        C(remove_disks), C(shutdown_timeout), C(start_delay), C(wait), C(wait_for), C(wait_timeout).
    type: dict
    default: {}
  limit:
    description:
      - Of the declarations, those that the task is about. If several of these are given, all must be true of each. If
        none is left, the task is done, unchanged, with a warning.
      - The others stay as they are, and still count as declared. O(purge) keeps to the limit, too.
    type: dict
    suboptions:
      tags:
        description: Those with one of these tags.
        type: list
        elements: str
      hypervisors:
        description: Those that are declared to be on one of these hypervisors; for O(purge), those that are there.
        type: list
        elements: str
      names:
        description: Those whose name is one of these, in which C(*), C(?) and C([]) stand for others as in a shell.
        type: list
        elements: str
  purge:
    description:
      - What becomes of virtual machines that are managed, are in O(scope), and are not declared.
      - V(report) lists them in RV(undeclared).
      - V(stop) shuts them down, too.
      - V(remove) shuts them down and removes them, too. Their disks are kept, unless O(defaults) say otherwise of
        C(remove_disks).
      - Domains that the platform does not manage are never touched.
    type: str
    choices:
      - none
      - report
      - stop
      - remove
    default: none
  scope:
    description:
      - Where O(purge) looks. Nothing outside of it is listed or touched.
      - If both are given, both must be true of a virtual machine.
      - O(purge=stop) and O(purge=remove) need it.
      - A list that is empty is refused here, and in O(limit) and O(selector), because it could mean all or none.
    type: dict
    suboptions:
      tags:
        description: Virtual machines with one of these tags.
        type: list
        elements: str
      hypervisors:
        description: Virtual machines on one of these hypervisors.
        type: list
        elements: str
  purge_limit:
    description:
      - The most virtual machines that O(purge) may stop or remove. If there are more, the task fails before anything
        changes, and names them.
      - O(purge=remove) needs it.
    type: int
  selector:
    description:
      - The managed virtual machines that O(state) and O(hypervisor) are for. All that is given must be true of each.
      - If none is, the task is done and unchanged.
    type: dict
    suboptions:
      tags:
        description: Those with one of these tags.
        type: list
        elements: str
      hypervisors:
        description: Those on one of these hypervisors.
        type: list
        elements: str
      states:
        description: Those that are in one of these states, such as V(running).
        type: list
        elements: str
        choices:
          - unknown
          - running
          - paused
          - shutting_down
          - stopped
          - crashed
          - pmsuspended
          - saved
      names:
        description: Those whose name is one of these, in which C(*), C(?) and C([]) stand for others as in a shell.
        type: list
        elements: str
  state:
    description: The state that those of O(selector) are to be in; see M(archipel.platform.archipel_vm).
    type: str
    choices:
      - running
      - stopped
      - paused
      - saved
      - restarted
  hypervisor:
    description: Where those of O(selector) are to be.
    type: str
  on_error:
    description:
      - What becomes of the others when a virtual machine fails.
      - V(continue) goes on with all but those that depend on it.
      - V(stop) begins nothing more. What has begun is brought to its end.
    type: str
    choices:
      - continue
      - stop
    default: continue
  max_parallel:
    description: How many virtual machines are worked on at the same time. If not given, only the other limits count.
    type: int
  max_parallel_per_hypervisor:
    description: How many virtual machines of one hypervisor are worked on at the same time, migrations not counted.
    type: int
    default: 32
  max_migrations:
    description: How many migrations run at the same time.
    type: int
    default: 5
  max_migrations_per_source:
    description: How many migrations away from one hypervisor run at the same time.
    type: int
    default: 2
notes:
  - What gives something back comes first. On each hypervisor, removals and shutdowns are done before virtual machines
    are made or started there, or move there. A virtual machine that is removed by its UUID is gone before another one
    gets its name.
  - Virtual machines that are as declared are found by asking each hypervisor once. Only the others are worked on.
  - A hypervisor whose agent is offline fails those virtual machines that are to move to it, and those that were found
    nowhere and so may be on it. The others are done.
  - The task may be interrupted at any time. The next one goes on from what there is.
author:
  - Archipel maintainers (@archipel)
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.vm.list
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
seealso:
  - module: archipel.platform.archipel_vm
  - module: archipel.platform.archipel_vm_info
"""

EXAMPLES = r"""
- name: The virtual machines are as the files of the repository say
  archipel.platform.archipel_fleet:
    vms_dir: "{{ inventory_dir }}/vms"
    defaults:
      autostart: true
      shutdown_timeout: 120

- name: Nothing else runs on hv1 and hv2, and at most three virtual machines go
  archipel.platform.archipel_fleet:
    vms: "{{ archipel_vms }}"
    purge: remove
    purge_limit: 3
    scope:
      hypervisors:
        - hv1
        - hv2

- name: The declared virtual machines of hv1, and no others
  archipel.platform.archipel_fleet:
    vms_dir: "{{ inventory_dir }}/vms"
    limit:
      hypervisors:
        - hv1

- name: The web server is started when its database runs
  archipel.platform.archipel_fleet:
    vms:
      - name: db
        hypervisor: hv1
        state: running
        memory: 4GiB
      - name: web
        hypervisor: hv2
        state: running
        memory: 2GiB
        depends_on:
          - db

- name: All web servers are stopped, whether their guests want to or not
  archipel.platform.archipel_fleet:
    selector:
      tags:
        - web
    state: stopped
    defaults:
      force: true

- name: What runs on hv1 moves to hv2, one at a time
  archipel.platform.archipel_fleet:
    selector:
      hypervisors:
        - hv1
      states:
        - running
    hypervisor: hv2
    max_migrations_per_source: 1
"""

RETURN = r"""
vms:
  description:
    - What became of each declared virtual machine of O(limit), in the order of the declarations, then of those that
      O(purge) is for.
    - With O(selector), of those that are meant, by hypervisor and name.
  returned: always, once the hypervisors were asked
  type: list
  elements: dict
  contains:
    name:
      description: Name of the virtual machine.
      type: str
      sample: web1
    changed:
      description: Whether it changed, or in check mode would.
      type: bool
      sample: true
    diff:
      description: What changed, or in check mode would, before and after. Empty if nothing.
      type: dict
      sample:
        before:
          memory: 1GiB
        after:
          memory: 2GiB
    actions:
      description: What was done, or in check mode would be, in the order of doing.
      type: list
      elements: str
      sample:
        - define
        - start
    restart_required:
      description: What a running virtual machine does not have until its next start.
      type: list
      elements: str
      sample: []
    applied_live:
      description: Those of the actions that the running guest sees without a restart.
      type: list
      elements: str
      sample: []
    vm:
      description: The virtual machine, as M(archipel.platform.archipel_vm) returns it.
      type: dict
      sample:
        name: web1
        uuid: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a
        hypervisor: hv1
        state: running
    error:
      description: Why it failed, or was not begun; not there if it did neither.
      type: str
      sample: "'web1' on hv1: there is no network 'dmz'"
summary:
  description: What was done, or in check mode would be, to how many virtual machines.
  returned: always, once the hypervisors were asked
  type: str
  sample: create 3, change 2 (1 needs a restart), move 1, stop 1, unchanged 193
counts:
  description: The numbers of RV(summary). Keys without a virtual machine are not there.
  returned: always, once the hypervisors were asked
  type: dict
  sample:
    create: 3
    change: 2
    move: 1
    stop: 1
    unchanged: 193
undeclared:
  description: The virtual machines that are managed, are in O(scope) and O(limit), and are not declared.
  returned: if O(purge) is not V(none)
  type: list
  elements: dict
  sample:
    - name: old
      uuid: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0b
      hypervisor: hv2
      state: running
silent:
  description:
    - Hypervisors that did not answer, of those that O(selector) or O(scope) is about. What is meant on them is not
      known, so the task fails.
  returned: always, once the hypervisors were asked
  type: list
  elements: dict
  contains:
    hypervisor:
      description: Its name.
      type: str
      sample: hv2
    reason:
      description: Why it did not answer.
      type: str
      sample: the agent of hv2 is offline; start archipel-agent there
"""

import typing as t

from ansible_collections.archipel.platform.plugins.module_utils import (
    _arguments,
    _connection,
    _converge,
    _fleet,
    _outcome,
)
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils._progress import Progress
from ansible_collections.archipel.platform.plugins.module_utils._schedule import Limits
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError


def report(outcome: _outcome.Outcome) -> dict[str, t.Any]:
    """One element of the result ``vms``."""
    shown: dict[str, t.Any] = {
        "name": outcome.name,
        "changed": outcome.changed,
        "diff": {"before": dict(outcome.before), "after": dict(outcome.after)} if outcome.changed else {},
        "actions": list(outcome.actions),
        "restart_required": list(outcome.restart_required),
        "applied_live": list(outcome.applied_live),
        "vm": outcome.vm or {},
    }
    if outcome.error is not None:
        shown["error"] = outcome.error.message
    return shown


def reasons(outcomes: t.Sequence[_outcome.Outcome], silent: t.Sequence[t.Mapping[str, str]]) -> str:
    """Why the task fails: how many virtual machines did, and each of their reasons; "" if it does not."""
    failed = [outcome.error.message for outcome in outcomes if outcome.error is not None]
    parts = [f"{len(failed)} of {len(outcomes)} virtual machines failed:"] if failed else []
    parts += [f"- {text}" for text in failed]
    parts += ["what is meant on {} is not known: {}".format(one["hypervisor"], one["reason"]) for one in silent]
    return "\n".join(parts)


def main() -> None:
    module = _arguments.Module(
        _fleet.option_problems,
        whole=["vms"],
        argument_spec={**_connection.argument_spec(), **_fleet.argument_spec()},
        required_one_of=[["vms", "vms_dir", "selector"]],
        mutually_exclusive=[["vms", "vms_dir", "selector"]],
        supports_check_mode=True,
    )
    params = module.params
    manner = _converge.Manner(
        check=module.check_mode,
        limits=Limits(
            params["max_parallel"],
            params["max_parallel_per_hypervisor"],
            params["max_migrations"],
            params["max_migrations_per_source"],
        ),
        stop=params["on_error"] == "stop",
        progress=Progress.of(module),
    )
    try:
        with Client(_connection.options(params)) as client:
            done = _fleet.run(Agents(client), params, manner)
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    for warning in (done.warning, *(outcome.warning for outcome in done.outcomes)):
        if warning:
            module.warn(warning)
    result: dict[str, t.Any] = {
        "changed": any(outcome.changed for outcome in done.outcomes),
        "vms": [report(outcome) for outcome in done.outcomes],
        "summary": _outcome.summary(
            done.outcomes, module.check_mode, "nothing is declared" if params["vms"] == [] else "nothing is meant"
        ),
        "counts": _outcome.counts(done.outcomes),
        "silent": list(done.silent),
        "diff": [outcome.diff for outcome in done.outcomes if outcome.changed],
    }
    if done.undeclared is not None:
        facts = ("name", "uuid", "hypervisor", "state")
        result["undeclared"] = [{key: vm[key] for key in facts} for vm in done.undeclared]
    failure = reasons(done.outcomes, done.silent)
    if failure:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
