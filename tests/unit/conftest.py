# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the collection, and the agent as it is installed on a hypervisor, on the import path."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

sys.path[:0] = [
    # ansible_collections.archipel.platform, a link that make lays
    str(ROOT / ".ansible" / "collections"),
    # archipel_agent
    str(ROOT / "roles" / "archipel_agent" / "files"),
    # archipel_protocol, beside it on a hypervisor
    str(ROOT / "plugins" / "module_utils"),
]
