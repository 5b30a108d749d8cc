# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's log: the journal, and a file that may be moved away (logrotate) or be another after a reload."""

from __future__ import annotations

import logging
import logging.handlers
import pathlib
import re

log = logging.getLogger("archipel_agent")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Formatter(logging.Formatter):
    """One line a message, whatever a sender put into it: nobody writes lines of his own into the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), record.message)
        return super().formatMessage(record)


def set_up(level: str, path: pathlib.Path | None) -> None:
    """Logs from now on at ``level`` to stderr, where the journal adds the time, and to the file; raises OSError."""
    journal = logging.StreamHandler()
    journal.setFormatter(_Formatter("%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [journal]
    if path is not None:
        # What UTF-8 cannot hold, as half a surrogate pair in JSON, is written as an escape.
        file = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    # force: those of an earlier configuration are closed. WARNING: other libraries' debug lines hold passwords.
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    log.setLevel(level.upper())
    # Says "No appropriate login method" at each refused password; the agent says more.
    logging.getLogger("slixmpp.features.feature_mechanisms.mechanisms").setLevel(logging.CRITICAL)
