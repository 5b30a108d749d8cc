# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Markdown points at is there: files behind links, make targets and files in commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
MAKE = re.compile(r"\bmake(?: -\w+)*((?: [a-z][a-z-]*)+)")
# A path of this repository inside of a command.
COMMAND_PATH = re.compile(r"(?<![\w./-])((?:inventories|playbooks|tests|\.ci)/[\w./-]+)")


def markdown() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def code(text: str) -> list[str]:
    """Inline code and the lines of fenced blocks, without their comments."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition("# ")[0] for block in fenced for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose)


def anchor(heading: str) -> str:
    """The fragment that GitHub and GitLab give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    broken = []
    for link in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _sep, fragment = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            broken.append(link)
        elif fragment and fragment not in [anchor(text) for text in HEADING.findall(target.read_text())]:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_what_there_is(page):
    unknown = []
    for line in code(page.read_text()):
        unknown += [name for names in MAKE.findall(line) for name in names.split() if name not in targets()]
        unknown += [path for path in COMMAND_PATH.findall(line) if not (ROOT / path).exists()]
    assert unknown == []
