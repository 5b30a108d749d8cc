# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process at a time in the agent's folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from archipel_agent import state_folder


def test_a_second_holder_is_refused_until_the_first_ends(tmp_path):
    with state_folder.held(tmp_path):
        with pytest.raises(state_folder.Unusable, match="archipel-agent runs, or an import; stop it first"):
            with state_folder.held(tmp_path):
                pass
    with state_folder.held(tmp_path):
        pass


def test_a_program_that_was_started_meanwhile_does_not_keep_it(tmp_path):
    with state_folder.held(tmp_path):
        command = [sys.executable, "-c", "print('here', flush=True); input()"]
        program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        program.stdout.readline()
    try:
        with state_folder.held(tmp_path):
            assert program.poll() is None
    finally:
        program.communicate(b"\n", timeout=60)


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(state_folder.Unusable, match="the role archipel_agent makes it"):
        with state_folder.held(tmp_path / "none"):
            pass
    with pytest.raises(state_folder.Unusable, match="the role archipel_agent makes it"):
        state_folder.become_owner(tmp_path / "none")


def test_its_owner_stays_who_they_are(tmp_path):
    state_folder.become_owner(tmp_path)
    (tmp_path / "made").touch()
    assert (tmp_path / "made").stat().st_uid == tmp_path.stat().st_uid
