# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specifications as AnsibleModule hands them to a module: every option there, None if not given."""

from __future__ import annotations

import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.archipel.platform.plugins.module_utils import _spec

DOMAIN = "archipel.test"


def spec(**options: t.Any) -> dict[str, t.Any]:
    result = ArgumentSpecValidator(_spec.argument_spec()).validate(options)
    if result.error_messages:
        raise ValueError(result.error_messages)
    return result.validated_parameters
