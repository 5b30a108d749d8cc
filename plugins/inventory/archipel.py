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
  - The source is a YAML file whose name ends in C(archipel.yml) or C(archipel.yaml). It describes one platform; for
    several, put several files into an inventory folder.
  - A host has the name of its virtual machine. Where several hosts would have one name, each virtual machine of them is
    C(name@hypervisor).
  - A virtual machine is in the groups C(archipel_vms), C(archipel_hypervisor_<hypervisor>), C(archipel_state_<state>)
    and, for each of its tags, C(archipel_tag_<tag>), a hypervisor in C(archipel_hypervisors). Characters that a group's
    name must not have become underscores.
  - A virtual machine has the variables C(archipel_vm_name), C(archipel_vm_uuid), C(archipel_vm_jid),
    C(archipel_vm_hypervisor), C(archipel_vm_state), C(archipel_vm_managed), C(archipel_vm_persistent),
    C(archipel_vm_autostart), C(archipel_vm_memory) (KiB), C(archipel_vm_vcpus) and C(archipel_vm_tags); they are what
    M(archipel.platform.archipel_vm_info) returns. A hypervisor has C(archipel_hypervisor_name),
    C(archipel_hypervisor_jid) and C(archipel_hypervisor_online).
  - C(ansible_host) is not set, since the platform does not know the addresses of its guests; use O(compose).
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
    description: It may be a template, which sees extra variables.
  password:
    description: It may be a template, which sees extra variables, or encrypted with Vault.
  server:
    description: It may be a template, which sees extra variables.
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
  on_silent:
    description:
      - What to do where the agent of a hypervisor does not answer. What is on such a hypervisor is not known.
      - With V(warn) its virtual machines are missing, and nothing is put into the cache.
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
  ansible_host: archipel_vm_name ~ '.example.org'
groups:
  large: archipel_vm_memory | default(0) >= 8 * 1024 * 1024
keyed_groups:
  - key: archipel_vm_vcpus | string
    prefix: vcpus
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible/archipel
cache_timeout: 60
"""

import collections
import typing as t

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.declaration import Facts
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

# Connection options that may be templates. The others have a type that a template's text would not pass.
TEMPLATES = ("jid", "password", "server")


class Hypervisor(t.TypedDict):
    """A hypervisor of the platform; ``jid`` is full."""

    name: str
    jid: str
    online: bool


class Platform(t.TypedDict):
    """What the agents told: the content of the cache."""

    hypervisors: list[Hypervisor]
    vms: list[Facts]


class Host(t.NamedTuple):
    """A host of the inventory; ``groups`` before their characters are made safe."""

    name: str
    groups: list[str]
    variables: dict[str, t.Any]


def read(agents: Agents) -> tuple[Platform, dict[str, ArchipelError]]:
    """The platform, and why hypervisors are silent. One login has one round of requests."""
    inventory = agents.inventory()
    hypervisors: list[Hypervisor] = [
        {"name": node, "jid": jids.hypervisor_jid(node, agents.domain), "online": node not in inventory.silent}
        for node in agents.known
    ]
    return {"hypervisors": hypervisors, "vms": inventory.vms}, inventory.silent


def hosts(platform: Platform, kinds: t.Sequence[str], unmanaged: bool) -> list[Host]:
    """The hosts of the ``kinds`` (vms, hypervisors), by name."""
    nodes = platform["hypervisors"] if "hypervisors" in kinds else []
    vms = [vm for vm in _once(platform["vms"]) if unmanaged or vm["managed"]] if "vms" in kinds else []
    uses = collections.Counter([entry["name"] for entry in (*nodes, *vms)])
    found = [Host(node["name"], ["archipel_hypervisors"], _variables("hypervisor", node)) for node in nodes]
    for vm in vms:
        name = vm["name"] if uses[vm["name"]] == 1 else "{}@{}".format(vm["name"], vm["hypervisor"])
        groups = ["archipel_vms", "archipel_hypervisor_" + vm["hypervisor"], "archipel_state_" + vm["state"]]
        groups += ["archipel_tag_" + tag for tag in vm.get("tags", [])]
        found.append(Host(name, groups, _variables("vm", vm)))
    return sorted(found, key=lambda host: host.name)


def _once(vms: t.Sequence[Facts]) -> list[Facts]:
    """Without the second form of a machine that moves just now: its target has it as a transient domain at first."""
    best: dict[str, Facts] = {}
    for vm in sorted(vms, key=lambda vm: (vm["managed"], vm["persistent"], vm["hypervisor"])):
        best[vm["uuid"]] = vm
    return list(best.values())


def _variables(kind: str, entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {f"archipel_{kind}_{key}": value for key, value in entry.items()}


def _inert(value: t.Any) -> t.Any:
    """``value`` of a hypervisor, never a template: ansible-core before 2.19 would make one of a machine's name."""
    texts = value if isinstance(value, list) else [value]
    return wrap_var(value) if any(isinstance(text, str) and "{" in text for text in texts) else value


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
            platform = self._platform(path, self._connection(config), cache)
        except ArchipelError as exc:
            raise AnsibleParserError(exc.message) from None
        self._populate(platform)

    def _connection(self, config: t.Mapping[str, t.Any]) -> _connection.Options:
        """The connection options. Only those of the file are templates: the environment is taken as it is."""
        params = {name: self.get_option(name) for name in _connection.Options._fields}
        self.templar.available_variables = self._vars
        for name in TEMPLATES:
            if name in config:
                params[name] = str(self.templar.template(params[name]))
        return _connection.options(params)

    def _platform(self, path: str, options: _connection.Options, cache: bool) -> Platform:
        """The platform out of the cache or from the agents. The same file may, by its environment, mean another one."""
        key = self.get_cache_key(f"{path} {jids.bare(options.jid)}")
        caching = self.get_option("cache")
        if caching and cache and key in self._cache:
            return self._cache[key]
        with Client(options) as client:
            platform, silent = read(Agents(client))
        self._complain(silent)
        if caching and not silent:
            self._cache[key] = platform
        return platform

    def _complain(self, silent: t.Mapping[str, ArchipelError]) -> None:
        fail = self.get_option("on_silent") == "fail"
        for node, error in sorted(silent.items()):
            text = f"{node} did not answer, so what is on it is not in the inventory: {error.message}"
            if fail:
                raise AnsibleParserError(text)
            self.display.warning(text)

    def _populate(self, platform: Platform) -> None:
        kinds = self.get_option("hosts")
        for kind in kinds:
            self.inventory.add_group(f"archipel_{kind}")
        for host in hosts(platform, kinds, self.get_option("unmanaged")):
            name = _inert(host.name)
            self.inventory.add_host(name)
            for group in host.groups:
                self.inventory.add_host(name, group=self.inventory.add_group(self._sanitize_group_name(group)))
            for key, value in host.variables.items():
                self.inventory.set_variable(name, key, _inert(value))
            self._construct(name)

    def _construct(self, name: str) -> None:
        strict = self.get_option("strict")
        variables = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict)
