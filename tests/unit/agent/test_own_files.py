# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of the host are one machine's alone."""

from __future__ import annotations

import pytest

from archipel_agent.domain_xml import parse_domain
from archipel_agent.own_files import NVRAM, own, shared

CODE = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
TEMPLATE = "template='/usr/share/OVMF/OVMF_VARS_4M.fd'"


def domain(boot: str, name: str = "web", firmware: str = "", devices: str = ""):
    return parse_domain(f"<domain><name>{name}</name><os {firmware}>{boot}</os><devices>{devices}</devices></domain>")


CHOSEN = {f"{NVRAM}/web_VARS.fd", f"{NVRAM}/web_VARS.qcow2"}


@pytest.mark.parametrize(
    "boot, firmware, files",
    [
        ("", "", set()),
        ("<loader type='rom'>/usr/share/seabios/bios.bin</loader>", "", set()),
        ("<kernel>/vm/k</kernel>", "", set()),
        ("", "firmware='efi'", CHOSEN),
        ("", "firmware='bios'", set()),
        (CODE, "", CHOSEN),
        (f"{CODE}<nvram {TEMPLATE}/>", "", CHOSEN),
        (f"{CODE}<nvram {TEMPLATE}>/vm/drives/../web.fd</nvram>", "", {"/vm/web.fd"}),
        (f"{CODE}<nvram type='file'><source file='/vm/web.fd'/></nvram>", "", {"/vm/web.fd"}),
        ("<loader type='pflash'>/vm/both.fd</loader><nvram>/vm/v.fd</nvram>", "", {"/vm/both.fd", "/vm/v.fd"}),
    ],
)
def test_own_files(boot, firmware, files):
    assert own(domain(boot, firmware=firmware)) == files


DISK = "<disk><source file='/vm/web.fd'/><target dev='vda'/></disk>"


@pytest.mark.parametrize(
    "other",
    [
        domain(f"{CODE}<nvram>{NVRAM}/web_VARS.fd</nvram>", name="db"),
        domain(f"{CODE}<nvram type='file'><source file='{NVRAM}/./web_VARS.fd'/></nvram>", name="db"),
        domain("", name="db", devices=DISK.replace("/vm/web.fd", f"{NVRAM}/web_VARS.fd")),
    ],
)
def test_variables_that_libvirt_chooses_are_another_machines(other):
    assert shared(domain("", firmware="firmware='efi'"), [other]) == {f"{NVRAM}/web_VARS.fd": "db"}


def test_variables_that_are_stated_are_another_machines():
    mine = domain(f"{CODE}<nvram>{NVRAM}/db_VARS.fd</nvram>")
    assert shared(mine, [domain("", name="db", firmware="firmware='efi'")]) == {f"{NVRAM}/db_VARS.fd": "db"}
    assert shared(mine, [domain("", name="other", firmware="firmware='efi'")]) == {}
    mine = domain(f"{CODE}<nvram>/vm/web.fd</nvram>")
    assert shared(mine, [domain("", name="db", devices=DISK)]) == {"/vm/web.fd": "db"}


def test_what_all_may_read_is_nobodys():
    both = [domain(f"{CODE}<nvram {TEMPLATE}/>", name=name) for name in ("web", "db")]
    assert shared(both[0], both[1:]) == {}
    assert shared(domain("", devices=DISK), [domain("", name="db", devices=DISK)]) == {}
