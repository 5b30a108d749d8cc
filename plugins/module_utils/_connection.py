# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection options that every module of this collection takes.

Private to this collection; it may change without notice. Documented in plugins/doc_fragments/connection.py.
"""

from __future__ import annotations

import os
import typing as t

from ansible.module_utils.common.parameters import env_fallback

DEFAULT_PORT = 5222
DEFAULT_TIMEOUT = 30.0


class Options(t.NamedTuple):
    """How to reach the platform. ``server`` None: the JID's domain; ``ca_file`` None: the system's authorities."""

    jid: str
    password: str
    server: str | None = None
    port: int = DEFAULT_PORT
    ca_file: str | None = None
    timeout: float = DEFAULT_TIMEOUT  # seconds


def argument_spec() -> dict[str, dict[str, t.Any]]:
    """The options as AnsibleModule takes them; each can come from the environment."""
    spec: dict[str, dict[str, t.Any]] = {
        "jid": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "server": {"type": "str"},
        "port": {"type": "int", "default": DEFAULT_PORT},
        "ca_file": {"type": "path"},
        "timeout": {"type": "float", "default": DEFAULT_TIMEOUT},
    }
    for name, option in spec.items():
        option["fallback"] = (_environment, [f"ARCHIPEL_{name.upper()}"])
    return spec


def _environment(name: str) -> str:
    """As env_fallback, but an empty variable is none: AWX makes one of each field of a credential, filled in or not."""
    return env_fallback(*([name] if os.environ.get(name) else []))


def options(params: t.Mapping[str, t.Any]) -> Options:
    """The connection options among a module's parameters."""
    return Options(**{name: params[name] for name in Options._fields})
