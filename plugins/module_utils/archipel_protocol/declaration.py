# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Payloads of ``archipel:declaration``: many virtual machines in one text.

A payload is JSON inside <archipel/> (requests) or <query/> (replies): one text is parsed a hundred times faster than
as many elements. docs/protocol.md describes every key.
"""

from __future__ import annotations

import json
import typing as t

from . import payloads
from .errors import MalformedRequest

INVENTORY = "inventory"
HYPERVISOR = "hypervisor"
PLAN = "plan"
APPLY = "apply"
MIGRATE = "migrate"
MIGRATE_PLAN = "migrate_plan"
PROGRESS = "progress"

# Who knows the addresses of a virtual machine: the agent in the guest, and libvirt's own DHCP servers.
AGENT = "agent"
LEASE = "lease"
ADDRESS_SOURCES = (AGENT, LEASE)

# Buses that a drive with a seed of cloud-init can be on.
CLOUD_INIT_BUSES = ("scsi", "sata", "ide", "usb")

# Largest text of one payload, in characters; ejabberd's stanza limit (role ejabberd) leaves room for its escapes.
MAX_PAYLOAD = 4 * 1024 * 1024


# Seconds that anything of a declaration may be waited for.
LONGEST_WAIT = 24 * 3600.0
# Most machines of one plan or apply that a client sends, so that the answer fits into a stanza, too.
MAX_BATCH = 500
# Bytes that the machines of one payload may take when they are sent; the rest of a stanza is for what goes around them.
ROOM = payloads.MAX_STANZA - 64 * 1024


class Wanted(t.TypedDict, total=False):
    """One virtual machine of a ``plan`` or ``apply`` request. ``uuid``, ``name`` and ``state`` are always there."""

    uuid: str
    name: str
    state: str  # states.DESIRED
    domain: str  # partial domain XML: what is stated, and nothing else
    defaults: str  # partial domain XML that counts only where the machine is created
    exact: list[str]  # device classes whose stated list is the whole list: "disk", "interface", ...
    volumes: list[Volume]  # made if missing
    autostart: bool | None  # None: not stated
    tags: list[str] | None  # None: not stated; else the whole list
    protected: bool | None  # None: not stated
    cloud_init: CloudInit | None  # None: not stated
    remove_disks: str  # states.REMOVE_DISKS
    apply: str  # states.APPLY
    allow_restart: bool
    force: bool
    shutdown_timeout: float  # seconds
    wait: bool
    wait_timeout: float  # seconds
    wait_for: str  # states.WAIT_FOR
    start_delay: float  # seconds
    assume_lost: list[str]  # hypervisors that a new machine is not looked for on
    show_xml: bool  # the result has the difference in domain XML, too


class _StatedVolume(t.TypedDict):
    pool: str
    name: str
    capacity: int
    format: str


class Volume(_StatedVolume, total=False):
    """A storage volume that a declaration asks for; ``capacity`` in bytes, 0: that of what it is made from."""

    clone: str  # a volume of the same pool that it begins as a copy of
    backing: str  # a volume of the same pool that it lies over


class CloudInit(t.TypedDict, total=False):
    """A seed of cloud-init (NoCloud). Without ``files`` there is to be none; with them, ``pool`` is there."""

    pool: str
    bus: str  # one of CLOUD_INIT_BUSES; empty: not stated
    files: dict[str, str]  # user-data, meta-data, network-config


class _KnownAddress(t.TypedDict):
    address: str
    mac: str  # lower case; empty where the guest agent tells none
    source: str  # one of ADDRESS_SOURCES


class Address(_KnownAddress, total=False):
    """An address of a virtual machine, none that only the guest itself could use."""

    prefix: int
    interface: str  # its name in the guest, where the guest agent tells it


class Facts(t.TypedDict, total=False):
    """What is known of a virtual machine. ``memory`` in KiB; ``state`` one of states.NAMES' values."""

    name: str
    uuid: str
    jid: str  # full
    hypervisor: str  # node
    state: str
    managed: bool
    persistent: bool
    autostart: bool
    memory: int
    vcpus: int
    tags: list[str]
    addresses: list[Address]  # only where sources were asked for
    definition: dict[str, t.Any]  # only where details were asked for; in the terms of archipel_vm's options


class Result(t.TypedDict, total=False):
    """What a ``plan`` would do, or an ``apply`` did, to one virtual machine. ``uuid`` is always there.

    An unchanged machine whose facts were not asked for answers with its UUID, and why it needs a restart, if it does,
    and whether an apply would wait for it.
    """

    uuid: str
    changed: bool
    actions: list[str]  # for people: "define", "start", "create volume default/web-root.qcow2", ...
    before: dict[str, t.Any]  # in the terms of archipel_vm's options, only what differs; empty: did not exist
    after: dict[str, t.Any]
    restart_required: list[str]  # reasons, also of an unchanged machine
    applied_live: list[str]  # those of ``actions`` that a running guest sees without a restart
    waits: bool  # nothing is to be done, but what runs has not come up as far as ``wait_for`` says
    ignored: list[str]  # paths in the domain XML of what is stated and libvirt does not keep, also if unchanged
    xml: str  # only where asked for: how the definition changes, as ``diff -u`` tells it, without secrets
    vm: Facts | None  # None: does not exist
    error: str
    code: int


class Job(t.TypedDict):
    """A machine that moves live: per cent of its data that are over there, and the bytes that are not."""

    uuid: str
    percent: int
    remaining: int


def fitting(items: t.Sequence[t.Mapping[str, t.Any]], room: int = ROOM) -> int:
    """How many of ``items``, counted from the first, a payload can hold: at least one, where there is one."""
    size = 0
    for count, item in enumerate(items):
        size += payloads.text_size(encode(item)) + 1
        if count and size > room:
            return count
    return len(items)


def encode(payload: t.Mapping[str, t.Any]) -> str:
    """The compact JSON text of ``payload``."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def decode(text: str | None) -> dict[str, t.Any]:
    """The object in ``text``; raises MalformedRequest where it is none, or too large."""
    if text is None or not text.strip():
        raise MalformedRequest("the payload is empty; it must be a JSON object")
    if len(text) > MAX_PAYLOAD:
        raise MalformedRequest(f"the payload has {len(text)} characters; at most {MAX_PAYLOAD} are taken")
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise MalformedRequest(f"the payload is not JSON: {exc}") from None
    if not isinstance(payload, dict):
        raise MalformedRequest(f"the payload must be a JSON object, not {type(payload).__name__}")
    return payload
