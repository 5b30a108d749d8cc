# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent looks at before libvirt acts: protection, images that have changed, files of other machines."""

from __future__ import annotations

import json
import uuid as uuidlib
from xml.sax.saxutils import escape

import pytest
from people import CONTROL, DEFINITION, DOMAIN, HYPERVISOR, Failed
from test_archipel_agent_chat import COMMANDS, talk
from test_archipel_lifecycle import COMMAND_LINE, REACHING

DECLARATION = "archipel:declaration"
ROSTER = "{jabber:iq:roster}"
OWN = "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>{}</os>"


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


def test_nobody_gets_the_firmware_variables_of_another_machine(managed, domain, automation, log_in, hypervisor):
    variables = f"/var/lib/libvirt/qemu/nvram/other-{managed.uuid[:8]}_VARS.fd"
    other = DOMAIN.format(name=f"other-{managed.uuid[:8]}", uuid=uuidlib.uuid4(), devices="")
    efi = other.replace(other[other.index("<os>") : other.index("</os>") + 5], OWN.format(""))
    managed.run(f"cat > /tmp/other.xml <<'END'\n{efi}\nEND\nvirsh -q define /tmp/other.xml; rm /tmp/other.xml")
    try:
        mine = DOMAIN.format(name=managed.name, uuid=managed.uuid, devices="")
        mine = mine.replace(mine[mine.index("<os>") : mine.index("</os>") + 5], _with_variables(managed, variables))
        reason = f"needs the permission 'host_access': {variables} belongs to the virtual machine 'other-"
        with pytest.raises(Failed, match=reason):
            automation.act(managed.jid, DEFINITION, "define", mine)
        result = declared(automation, hypervisor, managed, "plan", state="present", domain=_part(mine))
        assert f"{variables} belongs to the virtual machine 'other-" in result["error"]
        # Whoever may define it nevertheless does not delete the file with the machine.
        log_in("admin").act(managed.jid, DEFINITION, "define", mine)
        managed.run(f"touch {variables}")
        automation.act(managed.jid, DEFINITION, "undefine")
        assert managed.run(f"ls {variables}").strip() == variables
    finally:
        managed.run(f"virsh -q undefine --nvram other-{managed.uuid[:8]}; rm -f {variables}", check=False)


def _with_variables(machine, path: str) -> str:
    """An <os/> with firmware that the host has, and these variables."""
    code = machine.run("ls /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd 2>/dev/null | head -n1").strip()
    return (
        f"<os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>{code}</loader>"
        f"<nvram template='{code.replace('CODE', 'VARS')}'>{path}</nvram></os>"
    )


def _part(xml: str) -> str:
    """Without the identity, which a declaration states for itself."""
    start, end = xml.index("<name>"), xml.index("</uuid>") + len("</uuid>")
    return xml[:start] + xml[end:]
