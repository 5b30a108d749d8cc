# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of ``archipel:declaration``, read strictly: each key is known and of its type, or the request is refused."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from archipel_protocol import declaration as wire, jids, migration, states, tags
from archipel_protocol.declaration import ADDRESS_SOURCES, CloudInit, Volume
from archipel_protocol.errors import MalformedRequest

from . import cloud_init, devices

# Elements of <devices/> (formatdomain.html#devices), and the kinds of <disk/> that are told apart.
DEVICE_CLASSES = frozenset(
    (
        *("audio", "cdrom", "channel", "console", "controller", "crypto", "disk", "filesystem", "floppy", "graphics"),
        *("hostdev", "hub", "input", "interface", "iommu", "lease", "memballoon", "memory", "panic", "parallel"),
        *("redirdev", "redirfilter", "rng", "serial", "shmem", "smartcard", "sound", "tpm", "video", "vsock"),
        "watchdog",
    )
)


@dataclasses.dataclass(frozen=True)
class Desired:
    """One virtual machine as it is wanted; archipel_protocol.declaration.Wanted tells what the fields mean."""

    uuid: str
    name: str
    state: str
    domain: str = "<domain/>"
    defaults: str = ""
    exact: frozenset[str] = frozenset()
    volumes: tuple[Volume, ...] = ()
    autostart: bool | None = None
    tags: tuple[str, ...] | None = None
    protected: bool | None = None
    cloud_init: CloudInit | None = None
    remove_disks: str = "none"
    apply: str = "auto"
    allow_restart: bool = False
    force: bool = False
    shutdown_timeout: float = 60.0
    wait: bool = True
    wait_timeout: float = 60.0
    wait_for: str = states.WAIT_FOR[0]
    start_delay: float = 0.0
    assume_lost: tuple[str, ...] = ()
    show_xml: bool = False


_FIELDS = frozenset(field.name for field in dataclasses.fields(Desired))


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which domains an inventory asks for; None selects all.

    ``most``: so many at once, and the rest by their UUIDs ``after`` the last of these; None: all at once.
    """

    names: frozenset[str] | None
    uuids: frozenset[str] | None
    details: bool
    after: str = ""
    most: int | None = None
    addresses: frozenset[str] = frozenset()  # archipel_protocol.declaration.ADDRESS_SOURCES

    def __contains__(self, machine: t.Any) -> bool:
        if self.names is None and self.uuids is None:
            return True
        return machine.name in (self.names or ()) or machine.uuid in (self.uuids or ())

    def page(self, known: t.Iterable[t.Any]) -> tuple[list[str], bool]:
        """(UUIDs that are answered at once, whether more follow) of all machines, which have a name and a UUID."""
        left = sorted(one.uuid for one in known if one.uuid > self.after and one in self)
        return left[: self.most], self.most is not None and len(left) > self.most


@dataclasses.dataclass(frozen=True)
class Migration:
    """How a running machine moves; archipel_protocol.migration.Migration tells what the fields mean."""

    bandwidth: int | None = None
    downtime: int | None = None
    timeout: float | None = None
    timeout_action: str = migration.TIMEOUT_ACTIONS[0]
    auto_converge: bool = False
    compression: str | None = None
    parallel_connections: int | None = None
    copy_storage: bool = False


@dataclasses.dataclass(frozen=True)
class Move:
    """A machine that is wanted on the hypervisor ``to``.

    ``timeout``: seconds until the move is given up, None: never. ``off``: it is to be judged as if it was off.
    """

    uuid: str
    to: str
    timeout: float | None = None
    migration: Migration = Migration()
    off: bool = False


def move(payload: dict[str, t.Any]) -> Move:
    """The request of ``migrate`` and ``migrate_plan``."""
    _known(payload, [field.name for field in dataclasses.fields(Move)], "")
    uuid = _of_type(payload, "uuid", str, "")
    if not jids.is_uuid(uuid):
        raise MalformedRequest(f"uuid is '{uuid}', not a UUID in lower case with dashes")
    timeout = _of_type(payload, "timeout", (int, float), "", None)
    if timeout is not None and timeout <= 0:
        raise MalformedRequest("timeout must be a number of seconds above 0")
    return Move(
        uuid=uuid,
        to=_of_type(payload, "to", str, ""),
        timeout=timeout,
        migration=_migration(_of_type(payload, "migration", dict, "", {})),
        off=_of_type(payload, "off", bool, "", False),
    )


def _migration(one: dict[str, t.Any]) -> Migration:
    path = "migration"
    _known(one, [field.name for field in dataclasses.fields(Migration)], path)
    found = Migration(
        bandwidth=_of_type(one, "bandwidth", int, path, None),
        downtime=_of_type(one, "downtime", int, path, None),
        timeout=_of_type(one, "timeout", (int, float), path, None),
        timeout_action=_choice(one, "timeout_action", path, migration.TIMEOUT_ACTIONS),
        auto_converge=_of_type(one, "auto_converge", bool, path, False),
        compression=_choice(one, "compression", path, migration.COMPRESSIONS) if one.get("compression") else None,
        parallel_connections=_of_type(one, "parallel_connections", int, path, None),
        copy_storage=_of_type(one, "copy_storage", bool, path, False),
    )
    for problem in migration.problems(dataclasses.asdict(found)):
        raise MalformedRequest(f"{path}.{problem}")
    return found


def selection(payload: dict[str, t.Any]) -> Selection:
    """The request of ``inventory``."""
    _known(payload, ("names", "uuids", "details", "addresses", "after", "max"), "")
    names, uuids = _strings(payload, "names"), _strings(payload, "uuids")
    after, most = _of_type(payload, "after", str, "", ""), _of_type(payload, "max", int, "", None)
    if after and not jids.is_uuid(after):
        raise MalformedRequest(f"after is '{after}', not a UUID in lower case with dashes")
    if most is not None and most < 1:
        raise MalformedRequest(f"max is {most}, and must be at least 1")
    sources = _strings(payload, "addresses") or []
    unknown = sorted(set(sources) - set(ADDRESS_SOURCES))
    if unknown:
        raise MalformedRequest(f"addresses: '{unknown[0]}' is not known; {', '.join(ADDRESS_SOURCES)} are")
    return Selection(
        None if names is None else frozenset(names),
        None if uuids is None else frozenset(uuid.lower() for uuid in uuids),
        _of_type(payload, "details", bool, "", False),
        after,
        most,
        frozenset(sources),
    )


def uuids(payload: dict[str, t.Any]) -> list[str]:
    """The request of ``progress``."""
    _known(payload, ("uuids",), "")
    return [uuid.lower() for uuid in _strings(payload, "uuids") or []]


def machines(payload: dict[str, t.Any]) -> tuple[list[Desired], bool]:
    """(machines, whether facts are asked for) of the request of ``plan`` and ``apply``."""
    _known(payload, ("vms", "facts"), "")
    wanted = _of_type(payload, "vms", list, "")
    found = [_desired(one, f"vms[{index}]") for index, one in enumerate(wanted)]
    for field in ("uuid", "name"):
        values = collections.Counter(getattr(one, field) for one in found)
        twice = sorted(value for value, count in values.items() if count > 1)
        if twice:
            raise MalformedRequest(f"vms: the {field} {twice[0]} is there twice")
    return found, _of_type(payload, "facts", bool, "", False)


def _desired(one: t.Any, path: str) -> Desired:
    if not isinstance(one, dict):
        raise MalformedRequest(f"{path} must be an object")
    _known(one, _FIELDS, path)
    uuid = _of_type(one, "uuid", str, path)
    if not jids.is_uuid(uuid):
        raise MalformedRequest(f"{path}.uuid is '{uuid}', not a UUID in lower case with dashes")
    state = _of_type(one, "state", str, path)
    if state not in states.DESIRED:
        raise MalformedRequest(f"{path}.state is '{state}'; one of {', '.join(states.DESIRED)} is meant")
    exact = _strings(one, "exact", path) or []
    unknown = sorted(set(exact) - DEVICE_CLASSES)
    if unknown:
        raise MalformedRequest(f"{path}.exact names '{unknown[0]}', which is no class of devices")
    volumes = _of_type(one, "volumes", list, path, [])
    return Desired(
        uuid=uuid,
        name=_name(one, path),
        state=state,
        domain=_of_type(one, "domain", str, path, "") or "<domain/>",
        defaults=_of_type(one, "defaults", str, path, ""),
        exact=frozenset(exact) | ({devices.SEED} if one.get("cloud_init") is not None else set()),
        volumes=tuple(_volume(volume, f"{path}.volumes[{index}]") for index, volume in enumerate(volumes)),
        autostart=_of_type(one, "autostart", bool, path, None),
        tags=_tags(one, path),
        protected=_of_type(one, "protected", bool, path, None),
        cloud_init=_cloud_init(one, path),
        remove_disks=_choice(one, "remove_disks", path, states.REMOVE_DISKS),
        apply=_choice(one, "apply", path, states.APPLY),
        allow_restart=_of_type(one, "allow_restart", bool, path, False),
        force=_of_type(one, "force", bool, path, False),
        shutdown_timeout=_seconds(one, "shutdown_timeout", path, Desired.shutdown_timeout),
        wait=_of_type(one, "wait", bool, path, True),
        wait_timeout=_seconds(one, "wait_timeout", path, Desired.wait_timeout),
        wait_for=_choice(one, "wait_for", path, states.WAIT_FOR),
        start_delay=_seconds(one, "start_delay", path, Desired.start_delay),
        assume_lost=tuple(_strings(one, "assume_lost", path) or ()),
        show_xml=_of_type(one, "show_xml", bool, path, False),
    )


def _choice(one: dict[str, t.Any], name: str, path: str, choices: t.Sequence[str]) -> str:
    value = _of_type(one, name, str, path, choices[0])
    if value not in choices:
        raise MalformedRequest(f"{path}.{name} is '{value}'; one of {', '.join(choices)} is meant")
    return str(value)


def _name(one: dict[str, t.Any], path: str) -> str:
    name = _of_type(one, "name", str, path)
    # libvirt refuses the slash; blanks around a name are a slip of the pen that nobody would see.
    if not name or name != name.strip() or "/" in name or not name.isprintable():
        raise MalformedRequest(f"{path}.name is '{name}', which cannot name a virtual machine")
    return name


def _tags(one: dict[str, t.Any], path: str) -> tuple[str, ...] | None:
    stated = _strings(one, "tags", path)
    problems = tags.problems(stated or [])
    if problems:
        raise MalformedRequest(f"{path}.tags: {problems[0]}")
    return None if stated is None else tuple(sorted(set(stated)))


def _volume(one: t.Any, path: str) -> Volume:
    if not isinstance(one, dict):
        raise MalformedRequest(f"{path} must be an object")
    _known(one, ("pool", "name", "capacity", "format", "clone", "backing"), path)
    volume = Volume(
        pool=_of_type(one, "pool", str, path),
        name=_volume_name(one, "name", path),
        capacity=_of_type(one, "capacity", int, path),
        format=_of_type(one, "format", str, path),
    )
    for origin in ("clone", "backing"):
        if one.get(origin) is not None:
            volume[origin] = _volume_name(one, origin, path)
    if volume["capacity"] < 0 or (volume["capacity"] == 0 and not {"clone", "backing"} & set(volume)):
        raise MalformedRequest(f"{path}.capacity must be a number of bytes above 0")
    return volume


def _cloud_init(one: dict[str, t.Any], path: str) -> CloudInit | None:
    stated = _of_type(one, "cloud_init", dict, path, None)
    if stated is None:
        return None
    path = f"{path}.cloud_init"
    _known(stated, ("pool", "bus", "files"), path)
    files = _of_type(stated, "files", dict, path, {})
    _known(files, cloud_init.TERMS, f"{path}.files")
    found = CloudInit(files={name: _of_type(files, name, str, f"{path}.files") for name in files})
    if files:
        found["pool"] = _of_type(stated, "pool", str, path)
        found["bus"] = _choice(stated, "bus", path, ("", *wire.CLOUD_INIT_BUSES))
    return found


def _volume_name(one: dict[str, t.Any], key: str, path: str) -> str:
    name = _of_type(one, key, str, path)
    if not name or "/" in name or name in (".", ".."):
        raise MalformedRequest(f"{path}.{key} is '{name}', which cannot name a volume")
    return str(name)


def _known(payload: dict[str, t.Any], names: t.Iterable[str], path: str) -> None:
    unknown = sorted(set(payload) - set(names))
    if unknown:
        raise MalformedRequest(f"{_at(path, unknown[0])} is not known; {', '.join(sorted(names))} are")


_MISSING: t.Any = object()


def _of_type(payload: dict[str, t.Any], name: str, kind: t.Any, path: str, default: t.Any = _MISSING) -> t.Any:
    value = payload.get(name)
    if value is None:
        if default is _MISSING:
            raise MalformedRequest(f"{_at(path, name)} is missing")
        return default
    # A bool is an int in Python, but not in JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {str: "a text", bool: "true or false", list: "a list", dict: "an object", int: "a whole number"}
        raise MalformedRequest(f"{_at(path, name)} must be {names.get(kind, 'a number')}")
    return value


def _strings(payload: dict[str, t.Any], name: str, path: str = "") -> list[str] | None:
    values = _of_type(payload, name, list, path, None)
    if values is not None and not all(isinstance(value, str) for value in values):
        raise MalformedRequest(f"{_at(path, name)} must be a list of texts")
    return values


def _seconds(payload: dict[str, t.Any], name: str, path: str, default: float) -> float:
    seconds = float(_of_type(payload, name, (int, float), path, default))
    if not 0 <= seconds <= wire.LONGEST_WAIT:
        raise MalformedRequest(f"{_at(path, name)} must be between 0 and {wire.LONGEST_WAIT:g} seconds")
    return seconds


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
