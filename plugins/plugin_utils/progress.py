# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's side of plugins/module_utils/_progress.py: prints what a module tells while it runs.

An action plugin of the module's name, with a subclass ActionModule of ModuleWithProgress, is all that it takes.

It prints where the module runs on the controller, in an execution environment too; there the module runs in Ansible's
own process where it can (in_process.py). It is silent with ``async`` and
``no_log``, in check mode, and where the task is delegated to another host. Lines go to stderr, which is not buffered,
and where they are in nobody's way who reads the results from stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import types
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash
from ansible_collections.archipel.platform.plugins.module_utils._progress import FILE
from ansible_collections.archipel.platform.plugins.plugin_utils import in_process

display = Display()

# Seconds between two looks at the file.
_PAUSE = 0.25


class ModuleWithProgress(ActionBase):
    """Runs ``module``, the one of the task, and prints its events meanwhile."""

    module: types.ModuleType
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result; the same as without this plugin."""
        result = super().run(tmp, task_vars)
        del tmp
        if in_process.is_same(self, task_vars or {}):
            return merge_hash(result, self._run_here(task_vars or {}))
        wrap_async = self._task.async_val and not self._connection.has_native_async
        with _printed(None if wrap_async else self._channel()):
            result = merge_hash(result, self._execute_module(task_vars=task_vars, wrap_async=wrap_async))
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _run_here(self, task_vars: in_process.Vars) -> dict[str, t.Any]:
        if not self._prints:
            return in_process.run(self, self.module, task_vars, None)
        with tempfile.TemporaryDirectory(prefix="archipel-") as directory, _printed(_opened(directory)):
            return in_process.run(self, self.module, task_vars, directory)

    @property
    def _prints(self) -> bool:
        return self._connection.transport == "local" and not self._task.check_mode and not self._task.no_log

    def _channel(self) -> t.TextIO | None:
        """The new file, which the module finds in its temporary directory; None where nothing is to be printed."""
        if not self._prints:
            return None
        try:
            if self._connection._shell.tmpdir is None:
                self._make_tmp_path()
            return _opened(self._connection._shell.tmpdir)
        except OSError:
            return None


def _opened(directory: str) -> t.TextIO:
    path = os.path.join(directory, FILE)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL, 0o600), encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _printed(channel: t.TextIO | None) -> t.Iterator[None]:
    """Prints what comes into ``channel``, which is closed at the end."""
    if channel is None:
        yield
        return
    ended = threading.Event()
    printer = threading.Thread(target=_print_events, args=(channel, ended), daemon=True)
    printer.start()
    try:
        yield
    finally:
        ended.set()
        printer.join()
        channel.close()


def _print_events(channel: t.TextIO, ended: threading.Event) -> None:
    begun, last = "", False
    while not last:
        last = ended.wait(_PAUSE)
        *lines, begun = (begun + channel.read()).split("\n")
        for text in filter(None, map(line, lines)):
            display.display(text, stderr=True)


def line(event: str) -> str:
    """What is printed of an event, such as "web: moves to hv2, 42 %, 120MiB left"; "" for what is none."""
    try:
        content = json.loads(event)
        percent, detail = content["percent"], content["detail"]
        parts = [f"{content['vm']}: {content['action']}", *([] if percent is None else [f"{percent} %"]), detail]
    except (ValueError, TypeError, KeyError):
        return ""
    # It may repeat what another host has said, and goes to a terminal.
    return "".join(sign if sign.isprintable() else "?" for sign in ", ".join(filter(None, map(str, parts))))
