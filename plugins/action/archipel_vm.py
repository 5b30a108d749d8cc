# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.archipel.platform.plugins.modules import archipel_vm
from ansible_collections.archipel.platform.plugins.plugin_utils.progress import ModuleWithProgress


class ActionModule(ModuleWithProgress):
    """Runs archipel_vm, and prints how far a migration is."""

    module = archipel_vm
