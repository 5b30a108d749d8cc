# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent looks at before libvirt acts: protection, and images that have changed."""

from __future__ import annotations

import json
import uuid as uuidlib
from xml.sax.saxutils import escape

import pytest
from people import CONTROL, DEFINITION, DOMAIN, HYPERVISOR, SECRET, Failed
from playing import play
from test_archipel_agent_chat import COMMANDS, talk
from test_archipel_lifecycle import COMMAND_LINE, REACHING

DECLARATION = "archipel:declaration"
ROSTER = "{jabber:iq:roster}"


def declared(person, hypervisor, machine, action="apply", **wanted):
    """The result of a declaration of one machine."""
    content = json.dumps({"vms": [{"uuid": machine.uuid, "name": machine.name, **wanted}]})
    return json.loads(person.act(hypervisor, DECLARATION, action, escape(content)).text)["results"][0]


@pytest.mark.parametrize("reaching", [*REACHING, "command line"])
def test_a_declaration_that_reaches_into_the_host_is_not_made(managed, automation, hypervisor, reaching):
    before = managed.virsh("dumpxml")
    stated = _part(DOMAIN.format(name="", uuid="", devices=REACHING.get(reaching, "")))
    if reaching == "command line":
        stated = stated.replace("</domain>", COMMAND_LINE + "</domain>")
    for action in ("plan", "apply"):
        assert (
            "host_access" in declared(automation, hypervisor, managed, action, state="present", domain=stated)["error"]
        )
    assert managed.virsh("dumpxml") == before


def test_what_the_server_shares_of_a_hypervisor_has_a_group(log_in, hypervisor):
    """By which contacts.py knows what is not the agent's own to end."""
    stream = log_in(hypervisor.partition("@")[0]).stream
    roster = stream.ask("get", "<query xmlns='jabber:iq:roster'/>")
    groups = {item.get("jid").partition("@")[0]: [child.tag for child in item] for item in roster.iter(f"{ROSTER}item")}
    assert groups["automation"] == [f"{ROSTER}group"]


@pytest.fixture
def protected(managed, automation, hypervisor):
    assert "error" not in declared(automation, hypervisor, managed, state="running", protected=True)
    yield managed
    managed.run(f"virsh -q metadata {managed.uuid} --config --live --uri {DECLARATION} --remove", check=False)


def test_a_protected_machine_is_neither_stopped_nor_removed_in_any_way(protected, automation, hypervisor):
    stays = f"'{protected.name}' is protected and not {{}}; declare protected as false first"
    for action in ("destroy", "shutdown"):
        with pytest.raises(Failed, match=stays.format("stopped")):
            automation.act(protected.jid, CONTROL, action)
    with pytest.raises(Failed, match=stays.format("removed")) as raised:
        automation.act(protected.jid, CONTROL, "free")
    assert raised.value.code == -1020
    with pytest.raises(Failed, match=stays.format("removed")) as raised:
        automation.act(hypervisor, HYPERVISOR, "free", jid=protected.bare)
    assert raised.value.code == -9002
    assert stays.format("stopped") in talk(automation, protected.jid, "power off")
    assert stays.format("removed") in talk(automation, hypervisor, f"free {protected.name}")
    menu = automation.stream.ask("set", f"<command xmlns='{COMMANDS}' node='destroy' action='execute'/>", protected.jid)
    assert stays.format("stopped") in "".join(menu.itertext())
    assert protected.virsh("domstate") == "running"
    protected.virsh("destroy")
    with pytest.raises(Failed, match=stays.format("removed")):
        automation.act(protected.jid, DEFINITION, "undefine")
    # A definition of somebody's own does not end it.
    plain = DOMAIN.format(name=protected.name, uuid=protected.uuid, devices="")
    automation.act(protected.jid, DEFINITION, "define", plain)
    with pytest.raises(Failed, match=stays.format("removed")):
        automation.act(protected.jid, DEFINITION, "undefine")
    assert "error" not in declared(automation, hypervisor, protected, state="present", protected=False)
    automation.act(protected.jid, DEFINITION, "undefine")


@pytest.fixture
def image(platform, managed, automation):
    """The path of an image that is the machine's disk."""
    name = f"guard-{uuidlib.uuid4().hex[:8]}.qcow2"
    managed.run(f"virsh -q vol-create-as default {name} 1M --format qcow2")
    path = managed.run(f"virsh -q vol-path --pool default {name}").strip()
    disk = (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    xml = DOMAIN.format(name=managed.name, uuid=managed.uuid, devices=disk)
    automation.act(managed.jid, DEFINITION, "define", xml)
    yield path
    managed.virsh("destroy") if managed.virsh("domstate") != "shut off" else None
    managed.run(f"virsh -q vol-delete --pool default {name}", check=False)


def test_an_image_that_has_come_to_name_a_file_of_the_host_is_not_opened(
    managed, image, automation, log_in, hypervisor
):
    managed.run(f"qemu-img rebase -u -b /etc/hostname -F raw {image}")
    reason = "the start needs the permission 'host_access': .*its backing file /etc/hostname is outside"
    with pytest.raises(Failed, match=reason):
        automation.act(managed.jid, CONTROL, "create")
    for state in ("running", "paused", "restarted"):
        for action in ("plan", "apply"):
            error = declared(automation, hypervisor, managed, action, state=state)["error"]
            assert "its backing file /etc/hostname is outside" in error
    assert "its backing file /etc/hostname is outside" in talk(automation, managed.jid, "start")
    assert managed.virsh("domstate") == "shut off"
    assert "error" not in declared(log_in("admin"), hypervisor, managed, "plan", state="running")
    managed.run(f"qemu-img rebase -u -b '' {image}")
    automation.act(managed.jid, CONTROL, "create")
    assert managed.virsh("domstate") == "running"


def test_the_xml_of_a_change_is_shown_to_who_wants_to_see_much(managed, platform, tmp_path):
    vm = {"name": managed.name, "memory": "48MiB", "graphics": [{"type": "vnc", "password": "another1"}]}
    for verbosity in ("-vv", "-vvv"):
        done = play(platform, tmp_path / "play.yml", "--check", "--diff", verbosity, **vm)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = '+  <memory unit="KiB">49152</memory>' in done.stdout
        assert shown == ('passwd="(changed)"' in done.stdout) == (verbosity == "-vvv"), done.stdout
        assert SECRET[:8] not in done.stdout + done.stderr and "another1" not in done.stdout + done.stderr


def _part(xml: str) -> str:
    """Without the identity, which a declaration states for itself."""
    start, end = xml.index("<name>"), xml.index("</uuid>") + len("</uuid>")
    return xml[:start] + xml[end:]
