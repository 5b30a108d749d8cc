# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for get-pip.py where ansible-test cannot download it: pip comes from this Python's ensurepip.

ansible-test calls it with the packages to install and, possibly, get-pip.py's own options.
"""

from __future__ import annotations

import runpy
import subprocess
import sys

if __name__ == "__main__":
    wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
    # In a process of its own: it makes its process ignore pip's configuration.
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
    sys.argv = ["pip", "install", *wanted]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
