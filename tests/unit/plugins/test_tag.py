# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the tags that there are to those that are wanted."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.modules.archipel_tag import wanted


@pytest.mark.parametrize(
    "now, tags, state, found",
    [
        ([], ["web", "db", "web"], "present", ["db", "web"]),
        (["web"], ["db"], "present", ["db", "web"]),
        (["web"], ["web"], "present", ["web"]),
        (["web"], [], "present", ["web"]),
        (["db", "web"], ["web", "none"], "absent", ["db"]),
        (["web"], [], "absent", ["web"]),
        (["db", "web"], ["web", "new"], "exact", ["new", "web"]),
        (["web"], [], "exact", []),
    ],
)
def test_what_is_wanted(now, tags, state, found):
    assert wanted(now, tags, state) == found
