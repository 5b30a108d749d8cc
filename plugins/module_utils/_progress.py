# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module tells while it works, for the action plugin of the same name to print.

Private to this collection; it may change without notice. A module's output is seen only when it has ended. Where both
run on the controller the action plugin (plugins/plugin_utils/progress.py) makes a file in the module's temporary
directory, and the module appends an event a line, as JSON with the fields of Event. Where there is no such file (the
module runs on another host, or in the background) nobody is told, and nothing else is different. Shape::

    progress = Progress.of(module)
    progress.tell(Event("web", "moves to hv2", percent=42, detail="120MiB left"))
"""

from __future__ import annotations

import json
import os
import typing as t

FILE = "archipel-progress"


class Event(t.NamedTuple):
    """How far something is. ``action`` is for people and follows ``vm``, a name: "moves to hv2"; so is ``detail``."""

    vm: str
    action: str
    percent: int | None = None
    detail: str = ""


class Progress:
    """The way to whoever watches; nobody, where ``directory`` is None or has no FILE."""

    def __init__(self, directory: str | None = None) -> None:
        self._descriptor: int | None = None
        self._last: dict[str, Event] = {}
        if directory is not None:
            try:
                # Not made here: it would stay where nobody reads it.
                self._descriptor = os.open(os.path.join(directory, FILE), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            except OSError:
                self._descriptor = None

    @classmethod
    def of(cls, module: t.Any) -> Progress:
        """For an AnsibleModule. Its property ``tmpdir`` would make a directory where it was given none."""
        return cls(getattr(module, "_tmpdir", None))

    @property
    def watched(self) -> bool:
        """Whether telling is worth an effort."""
        return self._descriptor is not None

    def tell(self, event: Event) -> None:
        """Appends ``event``, if it is not what was told of that machine last; a watcher that is gone is no error."""
        if self._descriptor is None or self._last.get(event.vm) == event:
            return
        self._last[event.vm] = event
        try:
            os.write(self._descriptor, (json.dumps(event._asdict()) + "\n").encode("utf-8"))
        except OSError:
            self._descriptor = None
