# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of `make bench`: what misses what is wanted is seen."""

from __future__ import annotations

import pytest
from verdicts import MET, MISSED, UNITS, table, verdict


@pytest.mark.parametrize(
    ("measured", "wanted", "expected"),
    [
        ("7.9 s", "8 s", MET),
        ("8.0 s", "8 s", MET),
        ("8.1 s", "8 s", MISSED),
        # Not compared as texts.
        ("10.2 ms", "9.9 ms", MISSED),
        ("126 KiB", "400 KiB", MET),
        ("1160/s", "1000/s", MET),
        ("990/s", "1000/s", MISSED),
        ("1", "0", MISSED),
        ("0", "0", MET),
        ("x 1.061", "x 1.05", MISSED),
        ("900 ms", "1 s", UNITS),
        ("no time", "1 s", UNITS),
        ("400 ms", "", ""),
        ("400 ms", "+350 ms", ""),
        ("6.30 s", "6.21 to 6.52 s", ""),
    ],
)
def test_it_is_told_whether_something_misses(measured, wanted, expected):
    assert verdict(measured, wanted) == expected


def test_those_that_miss_are_marked_and_counted():
    *lines, last = table([("a", "9 s", "8 s"), ("b", "7 s", "8 s"), ("c", "9 s", "")]).split("\n")
    assert [line.split()[-1] for line in lines] == [MISSED, MET, "s"]
    assert last == "1 of 2 missed what is wanted"
