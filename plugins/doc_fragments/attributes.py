# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of what the modules support of Ansible's features."""

from __future__ import annotations


class ModuleDocFragment:
    """Extend with C(archipel.platform.attributes) and one of its parts."""

    # The attributes that every module of the collection has.
    DOCUMENTATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/archipel.platform.archipel) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - archipel.platform.archipel
"""

    # For modules that declare something.
    DECLARATIVE = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff
      mode.
    support: full
"""

    # For modules that only read.
    READING = r"""
options: {}
attributes:
  check_mode:
    description: This module only reads.
    support: full
  diff_mode:
    description: This module changes nothing.
    support: N/A
"""
