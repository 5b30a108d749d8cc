# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option ``cloud_init`` of a virtual machine: what its guest is told at its first boot.

Private to this collection; it may change without notice. The files are those of cloud-init's data source NoCloud:
https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import json
import re
import typing as t

from ._vm_storage import DEFAULT_POOL, FILE_NAME
from .archipel_protocol.declaration import CLOUD_INIT_BUSES, CloudInit

Spec = t.Mapping[str, t.Any]

OPTIONS: dict[str, dict[str, t.Any]] = {
    "cloud_init": {
        "type": "dict",
        "options": {
            "user_data": {"type": "str", "no_log": True},
            "meta_data": {"type": "dict"},
            "network_config": {"type": "dict"},
            "pool": {"type": "str"},
            "bus": {"type": "str", "choices": list(CLOUD_INIT_BUSES)},
        },
    },
}
_FILES = ("user_data", "meta_data", "network_config")
# https://docs.cloud-init.io/en/latest/explanation/format.html: what is of no known form is ignored with a warning.
_BEGINNINGS = ("#cloud-", "#!", "#include", "#part-handler", "## template:", "content-type:", "mime-version:")


def problems(spec: Spec) -> t.Iterator[str]:
    """Why the option cannot be meant: a sentence each, beginning with the option's path."""
    stated = spec["cloud_init"]
    if stated is None:
        return
    text = stated["user_data"]
    if text and not text.lower().startswith(_BEGINNINGS):
        yield (
            "cloud_init.user_data: must be a text whose first line says what it is, such as #cloud-config or "
            "#!/bin/sh; make one of a dictionary with the filter to_nice_yaml"
        )
    if stated["pool"] is not None and not FILE_NAME.match(stated["pool"]):
        yield f"cloud_init.pool: '{stated['pool']}' must not be empty or have a '/'"
    for option in ("pool", "bus"):
        if stated[option] is not None and not _is_wanted(stated):
            yield f"cloud_init.{option}: means nothing without user_data, meta_data or network_config"


def wanted(spec: Spec, name: str, uuid: str) -> CloudInit | None:
    """What the machine ``name`` is to have of cloud-init; None: nothing is said about it."""
    stated = spec["cloud_init"]
    if stated is None:
        return None
    if not _is_wanted(stated):
        return {"files": {}}
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")
    meta = {"instance-id": uuid, **({"local-hostname": host} if host else {}), **(stated["meta_data"] or {})}
    # JSON is YAML.
    files = {"user-data": stated["user_data"] or "#cloud-config\n", "meta-data": _text(meta)}
    if stated["network_config"] is not None:
        files["network-config"] = _text(stated["network_config"])
    return {"pool": stated["pool"] or DEFAULT_POOL, "bus": stated["bus"] or "", "files": files}


def _is_wanted(stated: Spec) -> bool:
    return any(stated[option] is not None for option in _FILES)


def _text(data: t.Mapping[str, t.Any]) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"
