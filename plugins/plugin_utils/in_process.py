# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module inside of Ansible's worker where that is the same as running it as a process on the controller.

A module's process starts an interpreter and compiles all that the module consists of, which takes many times as long as
a task that finds nothing to do. The worker has it all, because Ansible loads an action plugin, and with it the module
that the plugin imports, before it starts workers.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import types
import typing as t

from ansible import constants
from ansible.module_utils import basic
from ansible.plugins.action import ActionBase
from ansible_collections.archipel.platform.plugins.module_utils import _arguments
from ansible_collections.archipel.platform.plugins.plugin_utils.vm_files import plain

Vars = t.Mapping[str, t.Any]


def is_same(action: ActionBase, task_vars: Vars) -> bool:
    """Whether a process of the module would be on this host, and have the worker's interpreter, rights and environment.

    Whoever wants to look at the process gets it (ANSIBLE_KEEP_REMOTE_FILES).
    """
    task = action._task
    return (
        action._connection.transport == "local"
        and action._connection.become is None
        and not task.async_val
        and not any(task.environment or ())
        and not constants.DEFAULT_KEEP_REMOTE_FILES
        and _is_own(_interpreter(action, task_vars))
    )


def _interpreter(action: ActionBase, task_vars: Vars) -> str:
    """What is said of the interpreter on the host that the task is for; "" where Ansible would have to look for one."""
    host = action._task.delegate_to
    said = task_vars.get("ansible_delegated_vars", {}).get(host, {}) if host else task_vars
    return str(action._templar.template(said.get("ansible_python_interpreter") or ""))


def _is_own(path: str) -> bool:
    """Whether it is the worker's interpreter, under whichever of its names; in another folder it has other packages."""
    same_folder = os.path.dirname(path) == os.path.dirname(sys.executable)
    return same_folder and os.path.realpath(path) == os.path.realpath(sys.executable)


def run(action: ActionBase, module: types.ModuleType, task_vars: Vars, directory: str | None) -> dict[str, t.Any]:
    """The result of ``module``, whose main() reads its arguments as AnsibleModule does, and ends in exit_json().

    ``directory``: its temporary one.
    """
    args = plain(action._task.args)
    action._update_module_args(action._task.action, args, task_vars)
    args["_ansible_tmpdir"] = directory
    before = basic._ANSIBLE_ARGS, getattr(basic, "_ANSIBLE_PROFILE", None)
    output = io.StringIO()
    warnings: list[str] = []
    # As Ansible's wrapper hands them over; the profile has been there since ansible-core 2.19.
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode(), "legacy"
    try:
        with _arguments.heard(warnings), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            module.main()
    finally:
        basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = before
    result: dict[str, t.Any] = json.loads(output.getvalue())
    return {**result, "warnings": warnings} if warnings else result
