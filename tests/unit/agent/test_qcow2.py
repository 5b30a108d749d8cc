# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a qcow2 image names, read as QEMU reads it."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

from archipel_agent.qcow2 import Image, read


def parts(content: bytes):
    return lambda offset, length: content[offset : offset + length]


def header(version: int = 3, place: int = 0, length: int = 0, features: int = 0, extensions: bytes = b"") -> bytes:
    """A header as https://www.qemu.org/docs/master/interop/qcow2.html#header has it."""
    start = struct.pack(">4sIQI", b"QFI\xfb", version, place, length) + bytes(52)
    if version == 2:
        return start + extensions
    return start + struct.pack(">QQQII", features, 0, 0, 4, 104) + extensions


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


FORMAT = 0xE2792ACA


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"QFI\xfb",
        bytes(4096),
        b"KDMV" + bytes(4092),
        header(place=3 << 20, length=5),
        header(place=1, length=1024),
    ],
)
def test_what_qemu_does_not_take_for_one(content):
    assert read(parts(content)) is None


@pytest.mark.parametrize("version", [2, 3])
def test_a_backing_file(version):
    more = extension(0x6803F857, b"feature names") + extension(FORMAT, b"raw") + extension(0, b"")
    plain = header(version, extensions=more)
    content = header(version, len(plain), 11, extensions=more) + b"/etc/shadow" + b"more"
    assert read(parts(content)) == Image("/etc/shadow", "raw", False)
    assert read(parts(plain)) == Image("", "", False)


def test_a_backing_file_without_a_format_and_far_from_the_header():
    content = header(place=65536, length=3).ljust(65536, b"\0") + b"a:b"
    assert read(parts(content)) == Image("a:b", "", False)


def test_a_file_with_the_data():
    assert read(parts(header(features=4))) == Image("", "", True)
    assert read(parts(header(features=1))) == Image("", "", False)


def test_extensions_that_do_not_end():
    assert read(parts(header(place=104, length=2, extensions=struct.pack(">II", 1, 2**32 - 1)))).form == ""


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="QEMU's own images need qemu-img")
@pytest.mark.parametrize("version", ["0.10", "1.1"])
@pytest.mark.parametrize(
    "options, found",
    [
        ([], Image("", "", False)),
        (["-b", "base.raw", "-F", "raw"], Image("base.raw", "raw", False)),
        (["-u", "-b", 'json:{"file":"x"}', "-F", "qcow2"], Image('json:{"file":"x"}', "qcow2", False)),
    ],
)
def test_images_of_qemus_own(tmp_path, version, options, found):
    (tmp_path / "base.raw").write_bytes(bytes(1 << 20))
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"compat={version}", *options, "image", "1M"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert read(parts((tmp_path / "image").read_bytes())) == found
