# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A picture of the screen, with libvirt's test driver: its one machine always shows the same."""

from __future__ import annotations

import io

import pytest

libvirt = pytest.importorskip("libvirt")

from PIL import Image  # noqa: E402 - only where the agent is installed, as libvirt

from archipel_agent import screenshot  # noqa: E402 - it imports libvirt


@pytest.fixture
def domain():
    connection = libvirt.open("test:///default")
    yield connection.lookupByName("test")
    connection.close()


@pytest.mark.parametrize("small", [True, False])
def test_a_picture_has_the_size_that_is_told(domain, small):
    picture = screenshot.take(domain.connect(), domain.UUIDString(), small)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert (image.format, image.size) == ("PNG", (picture.width, picture.height))
    assert (picture.width <= 216 and picture.height <= 162) == small


def test_who_is_off_shows_nothing(domain):
    domain.destroy()
    assert screenshot.take(domain.connect(), domain.UUIDString(), False) is None
