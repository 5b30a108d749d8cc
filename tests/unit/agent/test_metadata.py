# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tags in a domain's <metadata>."""

from __future__ import annotations

import pytest

from archipel_agent import metadata
from archipel_agent.domain_xml import parse, serialise

OURS = "<a:tags xmlns:a='archipel:tags'>{}</a:tags>"
FOREIGN = "<app:tags xmlns:app='urn:app'><tag>no</tag></app:tags>"


def domain(content=""):
    return parse(f"<domain><name>web</name>{content and f'<metadata>{content}</metadata>'}</domain>")


@pytest.mark.parametrize(
    "content, found",
    [
        ("", []),
        (FOREIGN, []),
        (OURS.format(""), []),
        (FOREIGN + OURS.format("<tag>web</tag><tag>db</tag><tag>db</tag>"), ["db", "web"]),
        (OURS.format("<a:tag>web</a:tag>"), ["web"]),
        # Whoever may define a domain can write there.
        (OURS.format("<tag>a;;b</tag><tag/><word>x</word><tag>fine</tag>"), ["fine"]),
    ],
)
def test_reading(content, found):
    assert metadata.tags_of(domain(content)) == found


def test_what_is_written_is_read():
    assert metadata.read(parse(metadata.written(["<b>&", "web"]))) == ["<b>&", "web"]


@pytest.mark.parametrize(
    "existing, wanted, found",
    [
        (OURS.format("<tag>old</tag>"), "", ["old"]),
        (OURS.format("<tag>old</tag>"), FOREIGN, ["old"]),
        (OURS.format("<tag>old</tag>"), OURS.format("<tag>new</tag>"), ["new"]),
        (OURS.format("<tag>old</tag>"), OURS.format(""), []),
        (FOREIGN, "", []),
    ],
)
def test_a_definition_without_tags_keeps_those_that_there_are(existing, wanted, found):
    before, after = domain(existing), domain(wanted)
    metadata.keep_tags(before, after)
    assert metadata.tags_of(after) == found
    assert ("urn:app" in serialise(after)) == ("urn:app" in wanted)
    assert metadata.tags_of(before) == metadata.tags_of(domain(existing))


def test_what_the_agent_alone_writes_does_not_come_from_others():
    forged = (
        "<machine xmlns='archipel:declaration' protected='yes'><volume pool='default' name='another'/></machine>"
        "<arriving xmlns='archipel:arriving'>token</arriving>"
    )
    stated = domain(FOREIGN + forged + OURS.format("<tag>web</tag>") + forged)
    metadata.disown(stated)
    assert not metadata.owned(stated) and not metadata.is_protected(stated) and not metadata.is_marked(stated, "token")
    assert metadata.tags_of(stated) == ["web"] and "urn:app" in serialise(stated)
