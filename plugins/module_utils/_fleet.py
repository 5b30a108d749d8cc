# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet as archipel_fleet declares it: declarations, what they leave out, commands to a group, a word on the whole.

Private to this collection; it may change without notice. Documented in plugins/modules/archipel_fleet.py.
"""

from __future__ import annotations

import fnmatch
import typing as t

from . import _arguments, _declarations
from ._agents import Agents, reasons_of
from ._converge import Manner, converge
from ._decision import identity
from ._errors import Conflict
from ._outcome import Outcome
from ._spec import Spec
from .archipel_protocol import states
from .archipel_protocol.declaration import Facts
from .archipel_protocol.errors import ArchipelError

# What of ``defaults`` says how something is done, so that it also counts for machines that are not declared one by one.
HOW = ("force", "shutdown_timeout", "wait", "wait_timeout", "wait_for", "start_delay", "migration", "remove_disks")
_COMMANDS = ("running", "stopped", "paused", "saved", "restarted")
LIMITS = ("max_parallel", "max_parallel_per_hypervisor", "max_migrations", "max_migrations_per_source")
_STATES = list(dict.fromkeys(states.NAMES.values()))
_WORDS = {"type": "list", "elements": "str"}


def argument_spec() -> dict[str, dict[str, t.Any]]:
    """The options of the module besides the connection's."""
    return {
        "vms": {"type": "list", "elements": "dict", "options": _declarations.element_spec()},
        "vms_dir": {"type": "path"},  # the action plugin makes vms of it
        "defaults": {"type": "dict", "default": {}},  # the action plugin has merged them into vms
        "limit": {"type": "dict", "options": {"tags": _WORDS, "hypervisors": _WORDS, "names": _WORDS}},
        "purge": {"type": "str", "choices": ["none", "report", "stop", "remove"], "default": "none"},
        "scope": {"type": "dict", "options": {"tags": _WORDS, "hypervisors": _WORDS}},
        "purge_limit": {"type": "int"},
        "selector": {
            "type": "dict",
            "options": {
                "tags": _WORDS,
                "hypervisors": _WORDS,
                "states": {**_WORDS, "choices": _STATES},
                "names": _WORDS,
            },
        },
        "state": {"type": "str", "choices": list(_COMMANDS)},
        "hypervisor": {"type": "str"},
        "on_error": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
        "max_parallel": {"type": "int"},
        "max_parallel_per_hypervisor": {"type": "int", "default": 32},
        "max_migrations": {"type": "int", "default": 5},
        "max_migrations_per_source": {"type": "int", "default": 2},
    }


def option_problems(params: t.Mapping[str, t.Any]) -> list[str]:
    """All that is wrong with the options; each begins with the option's path."""
    specs = params["vms"] or []
    labels = [f"vms[{index}]" for index in range(len(specs))]
    return [*task_problems(params), *_declarations.problems(specs, labels)]


def task_problems(params: t.Mapping[str, t.Any]) -> list[str]:
    """All that is wrong with the options, the declarations left aside."""
    found = [*_empty_problems(params), *_subject_problems(params), *_purge_problems(params)]
    limits = [option for option in LIMITS if params[option] is not None and params[option] < 1]
    found += [f"{option}: must be at least 1" for option in limits]
    return found + _arguments.Reading(_declarations.element_spec(), params["defaults"] or {}, "defaults.").problems


def _empty_problems(params: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Of a list that a template has left empty nobody knows whether it means all or none."""
    for option in ("limit", "scope", "selector"):
        for key, values in (params[option] or {}).items():
            if values is not None and not _arguments.words(values):
                yield f"{option}.{key}: is empty; name at least one, or leave it out"


def _subject_problems(params: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if params["selector"] is None:
        for option in ("state", "hypervisor"):
            if params[option] is not None:
                yield f"{option}: is for those of selector; say it in the declarations, or in defaults"
        return
    if not _given(params["selector"]):
        yield "selector: give tags, hypervisors, states or names; names: ['*'] are all"
    if params["state"] is None and params["hypervisor"] is None:
        yield "selector: give state, or hypervisor, or both, for what is to become of those that it selects"
    if params["purge"] != "none":
        yield "purge: is for declarations, not for selector"
    if _given(params["limit"]):
        yield "limit: is for declarations; selector takes hypervisors, names and tags itself"


def _purge_problems(params: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    purge = params["purge"]
    if purge in ("stop", "remove") and not _given(params["scope"]):
        yield f"scope: purge {purge} needs tags or hypervisors to keep to"
    if purge == "remove" and params["purge_limit"] is None:
        yield "purge_limit: purge remove needs it: the most virtual machines that may be removed"
    if params["purge_limit"] is not None and params["purge_limit"] < 0:
        yield "purge_limit: must be at least 0"


class Done(t.NamedTuple):
    """``undeclared`` None: nobody asked. ``silent``: who did not tell which machines are meant, and why.

    ``warning``: of the options as a whole, "" if there is none.
    """

    outcomes: list[Outcome]
    undeclared: list[Facts] | None = None
    silent: t.Sequence[t.Mapping[str, str]] = ()
    warning: str = ""


def run(agents: Agents, params: t.Mapping[str, t.Any], manner: Manner) -> Done:
    """What the options, already judged, ask for. Raises ArchipelError where nothing was done at all."""
    if params["selector"] is not None:
        return _commanded(agents, params, manner)
    limit = _filter(params["limit"])
    _require(agents, limit, "limit")
    specs = [spec for spec in params["vms"] if limit.means(spec)]
    warning = ""
    if params["vms"] and not specs:
        warning = "limit: leaves none of the {} declarations".format(len(params["vms"]))
    manner = manner._replace(order=_declarations.order(specs))
    if params["purge"] == "none":
        return Done(converge(agents, specs, manner), warning=warning)
    scope = _filter(params["scope"])
    _require(agents, scope, "scope")
    inventory = agents.inventory()
    # What the limit leaves out is declared all the same.
    found = [vm for vm in undeclared(params["vms"], inventory.vms, scope, agents.domain) if limit.takes(vm)]
    commands = _purges(params, found)
    manner = manner._replace(
        graceful=range(len(specs), len(specs) + len(commands)) if params["purge"] == "remove" else ()
    )
    outcomes = converge(agents, [*specs, *commands], manner)
    silent = {node: error for node, error in inventory.silent.items() if limit.covers(node)}
    return Done(outcomes, found, _silent(silent, scope), warning)


def _commanded(agents: Agents, params: t.Mapping[str, t.Any], manner: Manner) -> Done:
    chosen = _filter(params["selector"])
    _require(agents, chosen, "selector")
    inventory = agents.inventory()
    wanted = {"state": params["state"], "hypervisor": params["hypervisor"]}
    commands = [_command(vm, params["defaults"], wanted) for vm in inventory.vms if chosen.takes(vm)]
    return Done(converge(agents, commands, manner), None, _silent(inventory.silent, chosen))


def _purges(params: t.Mapping[str, t.Any], found: t.Sequence[Facts]) -> list[Spec]:
    """The declarations of what is to go; raises Conflict where there is too much of it."""
    state = {"stop": "stopped", "remove": "absent"}.get(params["purge"])
    meant = [vm for vm in found if state == "absent" or vm["state"] not in ("stopped", "saved")] if state else []
    limit = params["purge_limit"]
    if limit is not None and len(meant) > limit:
        raise Conflict(
            "purge_limit: {} virtual machines are not declared, at most {} may be {}, so nothing was done: {}".format(
                len(meant),
                limit,
                "removed" if state == "absent" else "stopped",
                ", ".join(sorted("{} on {}".format(vm["name"], vm["hypervisor"]) for vm in meant)),
            )
        )
    return [_command(vm, params["defaults"], {"state": state}) for vm in meant]


def _command(vm: Facts, defaults: t.Mapping[str, t.Any], wanted: t.Mapping[str, t.Any]) -> Spec:
    """A declaration of ``vm`` that says ``wanted`` and nothing of its definition."""
    how = {option: defaults[option] for option in HOW if option in defaults}
    given = _declarations.merged(how, {"uuid": vm["uuid"], **wanted})
    return _arguments.Reading(_declarations.element_spec(), given).values


def _filter(given: t.Mapping[str, t.Any] | None) -> Filter:
    return Filter(**{key: _arguments.words(values) for key, values in _given(given).items()})


def _given(suboptions: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    return {key: value for key, value in (suboptions or {}).items() if value is not None}


def _require(agents: Agents, meant: Filter, option: str) -> None:
    for node in meant.hypervisors or ():
        agents.require(node, f"{option}.hypervisors")


def _silent(silent: t.Mapping[str, ArchipelError], meant: Filter) -> list[dict[str, str]]:
    return reasons_of({node: error for node, error in silent.items() if meant.covers(node)})


class Filter(t.NamedTuple):
    """Which machines are meant: those to which all that is given applies. None: not given."""

    tags: t.Collection[str] | None = None
    hypervisors: t.Collection[str] | None = None
    states: t.Collection[str] | None = None
    names: t.Collection[str] | None = None  # patterns

    def covers(self, hypervisor: str) -> bool:
        """Whether there can be such machines on ``hypervisor``."""
        return self.hypervisors is None or hypervisor in self.hypervisors

    def takes(self, vm: Facts) -> bool:
        """Whether ``vm`` is one of them."""
        return (
            vm["managed"]
            and self.covers(vm["hypervisor"])
            and (self.tags is None or not set(self.tags).isdisjoint(vm.get("tags", ())))
            and (self.states is None or vm["state"] in self.states)
            and self._named(vm["name"])
        )

    def means(self, spec: Spec) -> bool:
        """Whether ``spec`` declares one of them. What it does not say is no tag, name or hypervisor."""
        return (
            (self.hypervisors is None or spec["hypervisor"] in self.hypervisors)
            and (self.tags is None or not set(self.tags).isdisjoint(spec["tags"] or ()))
            and self._named(spec["name"] or "")
        )

    def _named(self, name: str) -> bool:
        return self.names is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)


def undeclared(specs: t.Sequence[Spec], vms: t.Sequence[Facts], scope: Filter, domain: str) -> list[Facts]:
    """The managed machines of ``scope`` that no declaration means, neither by name nor by UUID."""
    names = {spec["name"] for spec in specs}
    uuids = {identity(spec, domain) for spec in specs}
    return [vm for vm in vms if scope.takes(vm) and vm["name"] not in names and vm["uuid"] not in uuids]
