# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the disk of the smallest guest that shows it was not restarted.

A boot sector counts its boots and, 18 times a second, its ticks, and writes both to the second sector: two
little-endian 32-bit numbers, ticks first. A guest that lost its memory shows a second boot, one that lost its disk
stops counting.
"""

import sys

BOOT_SECTOR = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "8ec0"  # mov es, ax
    "8ed0"  # mov ss, ax
    "bc007c"  # mov sp, 0x7c00
    "bb007e"  # mov bx, 0x7e00
    "b80102"  # mov ax, 0x0201: read one sector
    "b90200"  # mov cx, 2: the second
    "ba8000"  # mov dx, 0x80: of the first disk
    "cd13"  # int 0x13
    "66ff06047e"  # inc dword [0x7e04]: one boot more
    "fb"  # again: sti
    "f4"  # hlt: until the timer's next interrupt
    "66ff06007e"  # inc dword [0x7e00]: one tick more
    "b80103"  # mov ax, 0x0301: write one sector
    "b90200"  # mov cx, 2
    "ba8000"  # mov dx, 0x80
    "bb007e"  # mov bx, 0x7e00
    "cd13"  # int 0x13
    "ebe9"  # jmp again
)

with open(sys.argv[1], "wb") as disk:
    disk.write(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024 - 512))
