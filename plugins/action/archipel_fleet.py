# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.utils.display import Display
from ansible_collections.archipel.platform.plugins.module_utils import _arguments, _declarations, _fleet
from ansible_collections.archipel.platform.plugins.modules import archipel_fleet
from ansible_collections.archipel.platform.plugins.plugin_utils import vm_files
from ansible_collections.archipel.platform.plugins.plugin_utils.progress import ModuleWithProgress

display = Display()


class ActionModule(ModuleWithProgress):
    """Runs archipel_fleet with the declarations of all files, and prints what it does, and what it has done."""

    module = archipel_fleet

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result. Raises AnsibleActionFail with all that is wrong with the declarations."""
        given = self._task.args
        try:
            self._task.args = self._declared(vm_files.plain(given))
            result = super().run(tmp, task_vars)
        finally:
            # With ``until``, Ansible runs the same task again, and defaults are merged in once.
            self._task.args = given
        if result.get("summary") and not self._task.no_log:
            display.display(
                "{}: {}".format("plan" if self._task.check_mode else "done", result["summary"]), stderr=True
            )
        return result

    def _declared(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """The arguments with every declaration in ``vms``, merged with ``defaults``."""
        problems: list[str] = []
        if args.get("vms_dir") is not None and args.get("vms") is None:
            path = self._loader.path_dwim(str(args.pop("vms_dir")))
            found, problems = vm_files.read(self._loader, path)
        elif isinstance(args.get("vms"), list):
            found = [(f"vms[{index}]", given) for index, given in enumerate(args["vms"])]
        else:
            # Nothing to merge, or nothing that could be: the module says so.
            return args
        defaults = args.get("defaults")
        if not isinstance(defaults, dict):
            defaults = {}
        known = _declarations.element_spec()
        wrong = _arguments.Reading(known, defaults, "defaults.").problems
        problems += wrong
        merged = [
            (label, given if wrong or not isinstance(given, dict) else _declarations.merged(defaults, given))
            for label, given in found
        ]
        problems += _problems(merged)
        if problems:
            raise AnsibleActionFail(
                "{} in the declarations, so nothing was done:\n{}".format(
                    "1 problem" if len(problems) == 1 else f"{len(problems)} problems",
                    "\n".join(f"- {problem}" for problem in problems),
                )
            )
        how = {option: value for option, value in defaults.items() if option in _fleet.HOW}
        return {**args, "vms": [given for dummy, given in merged], "defaults": how}


def _problems(found: t.Sequence[tuple[str, t.Any]]) -> list[str]:
    """All that is wrong with declarations, each beside the label of where it stands."""
    problems: list[str] = []
    specs: list[t.Any] = []
    known = ArgumentSpecValidator(_declarations.element_spec())
    for label, given in found:
        spec, wrong = _read(known, given, label)
        specs.append(spec)
        problems += wrong
    return [*problems, *_declarations.problems(specs, [label for label, dummy in found])]


def _read(known: ArgumentSpecValidator, given: t.Any, label: str) -> tuple[dict[str, t.Any] | None, list[str]]:
    """One declaration, as far as it is right, and what is wrong with it."""
    if not isinstance(given, dict):
        return None, [f"{label}: must be a dictionary"]
    try:
        result = known.validate(given)
        if not result.error_messages:
            return result.validated_parameters, []
    except TypeError:
        # It stumbles over what is no dictionary and should be.
        pass
    name = given.get("name") or given.get("uuid")
    reading = _arguments.Reading(known.argument_spec, given, f"{label} ({name}): " if name else f"{label}: ")
    return reading.values, reading.problems
