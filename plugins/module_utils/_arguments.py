# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that is wrong with options, at once and each with its path; AnsibleModule itself tells the first alone.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import contextlib
import difflib
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import ArgumentValueError, RequiredError

Options = t.Mapping[str, t.Mapping[str, t.Any]]

_KINDS = {
    "bool": "true or false",
    "dict": "a dictionary",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "str": "a text",
}


class Reading:
    """Options as far as they are right.

    ``values`` has every option of the specification: None where it is not given, wrong, or has something wrong in it.
    ``problems`` are sentences that begin with an option's path; ``secrets`` is what must never be shown.
    """

    def __init__(self, options: Options, given: t.Mapping[str, t.Any], prefix: str = "", whole: t.Sequence[str] = ()):
        self.values: dict[str, t.Any] = {}
        self.problems: list[str] = []
        self.secrets: set[str] = set()
        for name in given:
            if name not in options:
                self.problems.append(f"{prefix}{name}: is no option; {_hint(name, options)}")
        for name, option in options.items():
            self.values[name] = self._value(name, option, given, prefix)
            if option.get("no_log"):
                self.secrets.update(_texts(self.values[name]))
            if option.get("options") is not None and self.values[name] is not None:
                self._below(name, option, prefix, name in whole)

    def _value(self, name: str, option: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any], prefix: str) -> t.Any:
        """The value of one option, not looking into its suboptions."""
        flat = {key: value for key, value in option.items() if key not in ("options", "required_one_of")}
        if option.get("options") is not None:
            flat.pop("elements", None)
        result = ArgumentSpecValidator({name: flat}).validate({} if given.get(name) is None else {name: given[name]})
        for error in result.errors:
            self.problems.append(f"{prefix}{name}: {_reason(error, option, given.get(name))}")
        return None if result.error_messages else result.validated_parameters.get(name)

    def _below(self, name: str, option: t.Mapping[str, t.Any], prefix: str, whole: bool) -> None:
        """Reads the suboptions of an option. ``whole``: an element with something wrong in it is still one."""
        listed = option.get("type") == "list"
        elements = self.values[name] if listed else [self.values[name]]
        before = len(self.problems)
        found: list[t.Any] = []
        for index, element in enumerate(elements):
            path = f"{prefix}{name}[{index}]" if listed else f"{prefix}{name}"
            found.append(self._element(option["options"], element, path, whole))
        if len(self.problems) > before and not whole:
            self.values[name] = None
        else:
            self.values[name] = found if listed else found[0]

    def _element(self, options: Options, element: t.Any, path: str, whole: bool) -> dict[str, t.Any] | None:
        # A text such as "name=root size=1GiB" is a dictionary for Ansible.
        result = ArgumentSpecValidator({"element": {"type": "dict"}}).validate({"element": element})
        if result.error_messages:
            self.problems.append(f"{path}: must be a dictionary, not {_kind(element)}")
            return None
        given = result.validated_parameters["element"] or {}
        label = given.get("name") or given.get("uuid")
        reading = Reading(options, given, f"{path} ({label}): " if whole and label else f"{path}.")
        self.problems += reading.problems
        self.secrets |= reading.secrets
        return reading.values


_hearer: list[str] | None = None


@contextlib.contextmanager
def heard(warnings: list[str]) -> t.Iterator[None]:
    """Inside, modules' warnings go into ``warnings``.

    In its own process Ansible keeps them for all that follows, or prints them, and they are in no result.
    """
    global _hearer
    _hearer = warnings
    try:
        yield
    finally:
        _hearer = None


class Module(AnsibleModule):
    """AnsibleModule that tells all that is wrong with its options.

    ``judge`` tells what cannot be meant, of options whose types are right. Of the lists ``whole``, an element with
    something wrong in it is judged for the rest; it is None where it is no dictionary. What is wrong is not shown in
    the result's invocation: nobody knows whether it is a secret.
    """

    def __init__(
        self, judge: t.Callable[[dict[str, t.Any]], t.Sequence[str]], whole: t.Sequence[str] = (), **arguments: t.Any
    ) -> None:
        self._judge, self._whole = judge, whole
        self._ready = False
        try:
            super().__init__(**arguments)
        except TypeError as exc:
            # ArgumentSpecValidator stumbles over what is no dictionary and should be.
            self.fail_json(msg=str(exc))
        self._ready = True
        problems = judge(self.params)
        if problems:
            self.fail_json(msg="; ".join(problems))

    def _load_params(self) -> None:
        super()._load_params()
        # Before AnsibleModule converts them, and leaves out what it cannot convert.
        self._given = {name: value for name, value in self.params.items() if not name.startswith("_ansible_")}

    def warn(self, warning: str) -> None:
        """Has the user warned."""
        if _hearer is None:
            super().warn(warning)
        else:
            _hearer.append(warning)

    def fail_json(self, msg: str, **result: t.Any) -> t.NoReturn:
        """Ends the module. Before it is ready, that is AnsibleModule refusing its options."""
        if not self._ready:
            # Its own attempt may have stopped before it has seen every secret.
            reading = Reading(self.argument_spec, self._given, whole=self._whole)
            msg = "; ".join([*reading.problems, *self._judge(reading.values)]) or msg
            self.params = reading.values
            self.no_log_values |= reading.secrets
        super().fail_json(msg=msg, **result)


def words(values: t.Iterable[str]) -> list[str]:
    """The names in a list: Ansible takes a text such as "web, db" apart at the commas, and keeps the blank."""
    return [word for word in dict.fromkeys(value.strip() for value in values) if word]


def _reason(error: Exception, option: t.Mapping[str, t.Any], given: t.Any) -> str:
    if isinstance(error, RequiredError):
        return "is required"
    shown = f"'{given}' " if isinstance(given, (str, int, float)) and not option.get("no_log") else ""
    if isinstance(error, ArgumentValueError):
        return "{}must be one of {}".format(shown, ", ".join(option["choices"]))
    kind = _KINDS.get(option.get("type", "str"), str(option.get("type")))
    if option.get("elements") and option.get("options") is None:
        # With a list at hand, it is an element that is of another type.
        kind = "a list of which each element is {}".format(_KINDS.get(option["elements"], option["elements"]))
    # What stands where a structure should may hold a secret that is one of its parts.
    return f"must be {kind}" if option.get("type") in ("dict", "list") else f"{shown}must be {kind}"


def _hint(name: t.Any, options: Options) -> str:
    close = difflib.get_close_matches(str(name), list(options), 1)
    return f"{close[0]} is" if close else "there are {}".format(", ".join(sorted(options)))


def _kind(value: t.Any) -> str:
    return _KINDS.get(type(value).__name__, type(value).__name__)


def _texts(value: t.Any) -> t.Iterator[str]:
    """Every text in a structure."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for element in value:
            yield from _texts(element)
    elif value is not None and str(value):
        yield str(value)
