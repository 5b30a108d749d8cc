# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tags on the wire."""

from __future__ import annotations

import pytest

from archipel_protocol import tags
from archipel_protocol.errors import MalformedRequest


@pytest.mark.parametrize(
    "text, found",
    [
        ("", []),
        (";;", []),
        ("web", ["web"]),
        ("web;;db", ["db", "web"]),
        (" web ;;web;;", ["web"]),
        ("größer als;;Web", ["Web", "größer als"]),
    ],
)
def test_a_text_is_split_into_tags(text, found):
    assert tags.split(text) == found
    assert tags.split(tags.join(found)) == found


@pytest.mark.parametrize("text", ["a;b", "a;;;b", "a\nb", "a" * 65, ";;".join(map(str, range(65)))])
def test_what_is_no_tag_is_refused(text):
    with pytest.raises(MalformedRequest, match="tag"):
        tags.split(text)
