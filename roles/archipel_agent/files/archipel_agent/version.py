# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version of the agent, which is the collection's (galaxy.yml)."""

from __future__ import annotations

VERSION = "1.0.0-dev0"
