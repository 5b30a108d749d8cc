# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: archipel
short_description: The virtual machines and hypervisors of a platform
version_added: 1.0.0
description:
  - Makes hosts of the virtual machines of all hypervisors, and of the hypervisors if asked, with one login.
  - The source is a YAML file whose name ends in C(archipel.yml) or C(archipel.yaml). It describes one platform, or with
    O(domains) several.
  - A host has the name of its virtual machine. Where several hosts would have one name, each virtual machine of them is
    C(name@hypervisor), and where that is not enough C(name@hypervisor@domain). A hypervisor whose name another domain
    has too is C(name@domain). Names that mean something else to Ansible count as taken, which are V(localhost),
    V(127.0.0.1), V(::1), and the names of the groups below, of those in O(groups), and of all that an earlier source
    has made.
  - A virtual machine is in the groups C(archipel_vms), C(archipel_hypervisor_<hypervisor>), C(archipel_state_<state>)
    and, for each of its tags, C(archipel_tag_<tag>), a hypervisor in C(archipel_hypervisors). Both are in
    C(archipel_domain_<XMPP domain>). Characters that a group's name must not have become underscores.
  - A virtual machine has the variables C(archipel_vm_name), C(archipel_vm_uuid), C(archipel_vm_jid),
    C(archipel_vm_domain), C(archipel_vm_hypervisor), C(archipel_vm_state), C(archipel_vm_managed),
    C(archipel_vm_persistent), C(archipel_vm_autostart), C(archipel_vm_memory) (KiB), C(archipel_vm_vcpus),
    C(archipel_vm_tags) and C(archipel_vm_addresses); but for the domain they are what
    M(archipel.platform.archipel_vm_info) returns. A hypervisor has C(archipel_hypervisor_name),
    C(archipel_hypervisor_jid), C(archipel_hypervisor_domain) and C(archipel_hypervisor_online).
  - C(ansible_host) of a virtual machine is the first of its addresses that is not link-local, an IPv4 address if there
    is one. O(compose) has the last word.
author:
  - Archipel maintainers (@archipel)
options:
  plugin:
    description: Must be V(archipel.platform.archipel).
    type: str
    required: true
    choices:
      - archipel.platform.archipel
  jid:
    description:
      - It may be a template, which sees extra variables.
      - Required, unless each of O(domains) has its own.
    required: false
  password:
    description:
      - It may be a template, which sees extra variables, or encrypted with Vault.
      - Required, unless each of O(domains) has its own.
    required: false
  server:
    description: It may be a template, which sees extra variables.
  domains:
    description:
      - Several platforms, one for each XMPP domain. An element has the keys C(jid), C(password), C(server), C(port),
        C(ca_file) and C(timeout); what it does not have is taken from the option of that name.
    type: list
    elements: dict
    default: []
  hosts:
    description: What becomes a host.
    type: list
    elements: str
    choices:
      - vms
      - hypervisors
    default:
      - vms
  unmanaged:
    description: Whether domains of libvirt that the platform does not manage become hosts too.
    type: bool
    default: false
  addresses:
    description:
      - Who is asked for the addresses of virtual machines. V(agent) is the guest agent of one that runs, V(lease) a
        DHCP server of libvirt. With an empty list nobody is, and C(ansible_host) is not set.
      - What a guest agent tells is the guest's word. Without V(agent), a guest cannot have connections to it sent
        elsewhere.
    type: list
    elements: str
    choices:
      - agent
      - lease
    default:
      - agent
      - lease
  on_silent:
    description:
      - What to do where the agent of a hypervisor does not answer, or one of several O(domains), whose server cannot be
        reached or refuses the login. What is there is not known.
      - With V(warn) its virtual machines are missing, and nothing is put into the cache. The source fails where no
        domain answers.
      - With V(fail) the source fails.
    type: str
    choices:
      - warn
      - fail
    default: warn
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.connection.plugins
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
seealso:
  - module: archipel.platform.archipel_vm_info
"""

EXAMPLES = r"""
---
# lab.archipel.yml: the whole connection from the environment (ARCHIPEL_JID, ARCHIPEL_PASSWORD, ...)
plugin: archipel.platform.archipel

---
# prod.archipel.yml
plugin: archipel.platform.archipel
jid: automation@example.org
password: "{{ lookup('ansible.builtin.env', 'PROD_PASSWORD') }}"
server: xmpp.example.org
ca_file: /etc/archipel/ca.pem
hosts:
  - vms
  - hypervisors
compose:
  # Hypervisors have no addresses here.
  ansible_host: archipel_vm_name | default(archipel_hypervisor_name) ~ '.example.org'
groups:
  large: archipel_vm_memory | default(0) >= 8 * 1024 * 1024
keyed_groups:
  - key: archipel_vm_vcpus | string
    prefix: vcpus
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible/archipel
cache_timeout: 60

---
# all.archipel.yml: two platforms, with one account's name and password each
plugin: archipel.platform.archipel
ca_file: /etc/archipel/ca.pem
domains:
  - jid: automation@berlin.example.org
    password: "{{ lookup('ansible.builtin.env', 'BERLIN_PASSWORD') }}"
  - jid: automation@paris.example.org
    password: "{{ lookup('ansible.builtin.env', 'PARIS_PASSWORD') }}"
"""

import collections
import ipaddress
import typing as t

from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.declaration import Address, Facts
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

# Connection options that may be templates. The others have a type that a template's text would not pass.
TEMPLATES = ("jid", "password", "server")


class Hypervisor(t.TypedDict):
    """A hypervisor of the platform; ``jid`` is full."""

    name: str
    jid: str
    online: bool


class Platform(t.TypedDict):
    """What the agents of an XMPP domain told: the cache holds a list of these."""

    domain: str
    hypervisors: list[Hypervisor]
    vms: list[Facts]


class Host(t.NamedTuple):
    """A host of the inventory; ``groups`` before their characters are made safe."""

    name: str
    groups: list[str]
    variables: dict[str, t.Any]


def read(agents: Agents, sources: t.Sequence[str]) -> tuple[Platform, dict[str, ArchipelError]]:
    """The platform, and why hypervisors are silent. One login has one round of requests."""
    inventory = agents.inventory(addresses=sources)
    hypervisors: list[Hypervisor] = [
        {"name": node, "jid": jids.hypervisor_jid(node, agents.domain), "online": node not in inventory.silent}
        for node in agents.known
    ]
    return {"domain": agents.domain, "hypervisors": hypervisors, "vms": inventory.vms}, inventory.silent


def hosts(
    platforms: t.Sequence[Platform], kinds: t.Sequence[str], unmanaged: bool, reserved: t.Collection[str] = ()
) -> list[Host]:
    """The hosts of the ``kinds`` (vms, hypervisors), by name; no host has one of the names ``reserved``."""
    nodes = [(one["domain"], node) for one in platforms for node in one["hypervisors"] if "hypervisors" in kinds]
    vms = [
        (one["domain"], vm)
        for one in platforms
        for vm in _once(one["vms"])
        if "vms" in kinds and (unmanaged or vm["managed"])
    ]
    shared = collections.Counter([*reserved, *(node["name"] for dummy, node in nodes)])
    found = [
        Host(
            node["name"] if shared[node["name"]] == 1 else "{}@{}".format(node["name"], domain),
            ["archipel_hypervisors", "archipel_domain_" + domain],
            _variables("hypervisor", {**node, "domain": domain}),
        )
        for domain, node in nodes
    ]
    uses = collections.Counter([*reserved, *(host.name for host in found), *(vm["name"] for dummy, vm in vms)])
    uses.update(_placed(vm) for dummy, vm in vms)
    found += [Host(_name(vm, domain, uses), _groups(vm, domain), _vm_variables(vm, domain)) for domain, vm in vms]
    return sorted(found, key=lambda host: host.name)


def _placed(vm: Facts) -> str:
    return "{}@{}".format(vm["name"], vm["hypervisor"])


def _name(vm: Facts, domain: str, uses: t.Mapping[str, int]) -> str:
    """The shortest name of the machine that no other host has."""
    for name in (vm["name"], _placed(vm)):
        if uses[name] == 1:
            return name
    return f"{_placed(vm)}@{domain}"


def _groups(vm: Facts, domain: str) -> list[str]:
    groups = ["archipel_vms", "archipel_domain_" + domain]
    groups += ["archipel_hypervisor_" + vm["hypervisor"], "archipel_state_" + vm["state"]]
    return groups + ["archipel_tag_" + tag for tag in vm.get("tags", [])]


def _vm_variables(vm: Facts, domain: str) -> dict[str, t.Any]:
    variables = _variables("vm", {**vm, "domain": domain})
    address = reachable(vm.get("addresses", []))
    return variables if address is None else {**variables, "ansible_host": address}


def reachable(addresses: t.Sequence[Address]) -> str | None:
    """The first IPv4 address, else the first IPv6 address, that counts beyond its own network segment."""
    found = [one for one in map(_parsed, addresses) if one is not None and not one.is_link_local]
    return next((str(one) for one in sorted(found, key=lambda one: one.version)), None)


def _parsed(entry: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """It becomes an argument of ssh, so it has to be an address."""
    try:
        return ipaddress.ip_address(entry["address"])
    except ValueError:
        return None


def _once(vms: t.Sequence[Facts]) -> list[Facts]:
    """Without the second form of a machine that moves just now: its target has it as a transient domain at first."""
    best: dict[str, Facts] = {}
    for vm in sorted(vms, key=lambda vm: (vm["managed"], vm["persistent"], vm["hypervisor"])):
        best[vm["uuid"]] = vm
    return list(best.values())


def _variables(kind: str, entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {f"archipel_{kind}_{key}": value for key, value in entry.items()}


def _missing(who: str, where: str, error: ArchipelError) -> str:
    return f"{who} did not answer, so what is {where} is not in the inventory: {error.message}"


def _inert(value: t.Any) -> t.Any:
    """``value`` of a hypervisor, never a template: ansible-core before 2.19 would make one of a machine's name."""
    return wrap_var(value) if "{" in "".join(_texts(value)) else value


def _texts(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Hosts of a platform of Archipel."""

    NAME = "archipel.platform.archipel"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("archipel.yml", "archipel.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        config = self._read_config_data(path)
        unknown = sorted(set(config) - set(self._options))
        if unknown:
            raise AnsibleParserError("unknown options: {}".format(", ".join(unknown)))
        try:
            platforms = self._platforms(path, self._connections(config), cache)
        except ArchipelError as exc:
            raise AnsibleParserError(exc.message) from None
        self._populate(platforms)

    def _connections(self, config: t.Mapping[str, t.Any]) -> list[_connection.Options]:
        """One for each domain. Only what the file says is a template: the environment is taken as it is."""
        self.templar.available_variables = self._vars
        named = {name: self.get_option(name) for name in _connection.Options._fields}
        named.update(self._templated({name: named[name] for name in TEMPLATES if name in config}))
        domains = self.get_option("domains")
        if not all(isinstance(one, dict) for one in domains):
            raise AnsibleParserError("domains: each element must be a dictionary of connection options")
        found = [
            self._connection({**named, **self._templated(one)}, f"domains[{index}]: " if domains else "")
            for index, one in enumerate(domains or [{}])
        ]
        uses = collections.Counter(jids.domain(options.jid) for options in found)
        twice = sorted(domain for domain, count in uses.items() if count > 1)
        if twice:
            raise AnsibleParserError("domains: {} is there twice".format(twice[0]))
        return found

    def _templated(self, given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        return {
            name: str(self.templar.template(value)) if name in TEMPLATES and value is not None else value
            for name, value in given.items()
        }

    def _connection(self, params: t.Mapping[str, t.Any], where: str) -> _connection.Options:
        spec = _connection.argument_spec()
        for option in spec.values():
            # Ansible itself has read the environment.
            del option["fallback"]
        # AWX makes an empty variable of each field of a credential that is not filled in.
        given = {name: value for name, value in params.items() if value not in (None, "")}
        checked = ArgumentSpecValidator(spec).validate(given)
        if checked.unsupported_parameters:
            raise AnsibleParserError("{}unknown keys: {}".format(where, ", ".join(sorted(set(given) - set(spec)))))
        if checked.error_messages:
            raise AnsibleParserError(where + "; ".join(checked.error_messages))
        return _connection.options(checked.validated_parameters)

    def _platforms(self, path: str, connections: t.Sequence[_connection.Options], cache: bool) -> list[Platform]:
        """The platforms out of the cache or from the agents."""
        sources = self.get_option("addresses")
        # The same file may, by its environment, mean another platform.
        accounts = [jids.bare(options.jid) for options in connections]
        key = self.get_cache_key(" ".join([path, *accounts, *sources]))
        caching = self.get_option("cache")
        if caching and cache and key in self._cache:
            return self._cache[key]
        platforms: list[Platform] = []
        missing: list[str] = []
        # Before the first login: each judges its JID.
        clients = [Client(options) for options in connections]
        errors: dict[str, ArchipelError] = {}
        for client in clients:
            try:
                with client:
                    platform, silent = read(Agents(client), sources)
            except ArchipelError as exc:
                errors[client.domain] = exc
                continue
            platforms.append(platform)
            missing += [_missing(node, "on it", error) for node, error in sorted(silent.items())]
        if not platforms:
            raise AnsibleParserError("; ".join(error.message for error in errors.values()))
        missing += [_missing(domain, "there", error) for domain, error in errors.items()]
        self._complain(missing)
        if caching and not missing:
            self._cache[key] = platforms
        return platforms

    def _complain(self, missing: t.Sequence[str]) -> None:
        if missing and self.get_option("on_silent") == "fail":
            raise AnsibleParserError("; ".join(missing))
        for text in missing:
            self.display.warning(text)

    def _populate(self, platforms: t.Sequence[Platform]) -> None:
        kinds, unmanaged = self.get_option("hosts"), self.get_option("unmanaged")
        for kind in kinds:
            self.inventory.add_group(f"archipel_{kind}")
        for group in sorted({group for host in hosts(platforms, kinds, unmanaged) for group in host.groups}):
            self.inventory.add_group(self._sanitize_group_name(group))
        # Ansible would give a group of the name what is meant for the host, and would send what the controller is to do
        # to a host of its name.
        composed = map(self._sanitize_group_name, self.get_option("groups"))
        reserved = {*constants.LOCALHOST, *self.inventory.groups, *composed}
        names = [self._add(host) for host in hosts(platforms, kinds, unmanaged, reserved)]
        self._construct(names)

    def _add(self, host: Host) -> str:
        name = _inert(host.name)
        self.inventory.add_host(name)
        for group in host.groups:
            self.inventory.add_host(name, group=self._sanitize_group_name(group))
        for key, value in host.variables.items():
            self.inventory.set_variable(name, key, _inert(value))
        return name

    def _construct(self, names: t.Sequence[str]) -> None:
        strict = self.get_option("strict")
        steps = (
            (self._set_composite_vars, self.get_option("compose")),
            (self._add_host_to_composed_groups, self.get_option("groups")),
            # After the others have been done for all hosts: nobody knows these groups' names before.
            (self._add_host_to_keyed_groups, self.get_option("keyed_groups")),
        )
        for step, option in steps:
            for name in names:
                step(option, self.inventory.get_host(name).get_vars(), name, strict)
