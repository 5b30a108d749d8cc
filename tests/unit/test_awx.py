# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX's objects as data: what AWX's own collection takes, and what they say of each other and of the repository.

There is no AWX here. The argument specifications are those of awx.awx, which the PyPI package ansible carries; what AWX
itself checks beyond them (surveys, injectors, recurrence rules) is checked here by the same rules.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.archipel.platform.plugins.module_utils import _connection
from ansible_collections.awx.awx.plugins.module_utils import controller_api
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parents[2]
AWX = ROOT / "playbooks" / "awx"
EXAMPLE = ROOT / "inventories" / "example"
(PLAY,) = yaml.safe_load((AWX / "apply.yml").read_text())
# Module and options of the task that makes each list of objects.
TASKS = {}
for _task in PLAY["tasks"]:
    _module = next(key for key in _task if key.startswith("awx.awx."))
    _list = re.fullmatch(r"{{ (\w+) }}", _task["loop"]).group(1)
    TASKS[_list] = (_module.rpartition(".")[2], _task[_module])

VARIABLES = {
    "archipel_awx_repository": "https://git.example.org/platform.git",
    "archipel_awx_image": "registry.example.org/archipel-ee:1",
    "archipel_awx_site": "berlin",
    "archipel_awx_ssh_key": "secret-key",
    "archipel_jid": "automation@berlin.example.org",
    "archipel_password": "secret-1",
}


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The lists of objects as Ansible evaluates them, by the names of their variables."""
    folder = tmp_path_factory.mktemp("awx")
    content = "{{ {%s} | to_json }}" % ", ".join(f"'{name}': {name}" for name in TASKS)
    copy = {"ansible.builtin.copy": {"dest": str(folder / "objects.json"), "content": content, "mode": "0600"}}
    files = [str(AWX / name) for name in PLAY["vars_files"]]
    play = {"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": [copy]}
    (folder / "play.yml").write_text(json.dumps([play]))
    command = [Path(sys.executable).with_name("ansible-playbook"), folder / "play.yml", "-e", json.dumps(VARIABLES)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return json.loads((folder / "objects.json").read_text())


class Captured(Exception):
    """The arguments with which a module of awx.awx makes its AnsibleModule."""


def specification(name, monkeypatch):
    def capture(self, *dummy, **arguments):
        raise Captured(arguments)

    monkeypatch.setattr(controller_api.ControllerAPIModule, "__init__", capture)
    module = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{name}")
    with pytest.raises(Captured) as raised:
        module.main()
    (arguments,) = raised.value.args
    rules = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
    return ArgumentSpecValidator(
        arguments["argument_spec"], **{rule: arguments[rule] for rule in rules if rule in arguments}
    )


def named(objects, kind):
    return {one["name"]: one for one in objects[f"archipel_awx_{kind}"]}


@pytest.mark.parametrize("variable", TASKS)
def test_awx_takes_each_object(objects, monkeypatch, variable):
    module, options = TASKS[variable]
    validator = specification(module, monkeypatch)
    assert objects[variable]
    for one in objects[variable]:
        assert validator.validate(one).error_messages == []
        # A key that the task does not pass on would be lost, and one that it needs and is not there would fail it.
        needed = {option for option, value in options.items() if "omit" not in value}
        assert needed <= set(one) <= set(options), one["name"]
    assert validator.validate({**objects[variable][0], "nonesuch": 1}).error_messages


def test_options_are_passed_under_their_own_names():
    for dummy, options in TASKS.values():
        for option, value in options.items():
            assert re.fullmatch(rf"{{{{ item\.{option}( \| default\(omit\))? }}}}", value)


def test_names_are_those_of_objects(objects):
    organisations = {one["organization"] for kind in objects.values() for one in kind if "organization" in one}
    assert organisations == {"Default"}
    environments, credentials = named(objects, "execution_environments"), named(objects, "credentials")
    projects, inventories = named(objects, "projects"), named(objects, "inventories")
    templates = named(objects, "job_templates")
    assert {one["default_environment"] for one in projects.values()} <= set(environments)
    # Machine is a type of AWX's own.
    assert {one["credential_type"] for one in credentials.values()} <= {"Machine", *named(objects, "credential_types")}
    for source in objects["archipel_awx_inventory_sources"]:
        assert source["inventory"] in inventories and source["source_project"] in projects
        assert source["execution_environment"] in environments
        assert source.get("credential") is None or source["credential"] in credentials
        assert (EXAMPLE / source["source_path"]).is_file()
    for template in templates.values():
        assert template["inventory"] in inventories and template["project"] in projects
        assert template["execution_environment"] in environments and set(template["credentials"]) <= set(credentials)
        assert (EXAMPLE / template["playbook"]).is_file()
    for schedule in objects["archipel_awx_schedules"]:
        assert schedule["unified_job_template"] in templates
    assert {Path(one["playbook"]).stem for one in templates.values()} == {
        path.stem for path in (ROOT / "playbooks").glob("*.yml")
    }


def surveys(objects):
    return {name: one for name, one in named(objects, "job_templates").items() if "survey_spec" in one}


def test_surveys_are_such_as_awx_takes(objects):
    assert {"Archipel drift", "Archipel import"} <= set(surveys(objects))
    for template in surveys(objects).values():
        assert template["survey_enabled"] is True
        survey = template["survey_spec"]
        assert set(survey) == {"name", "description", "spec"} and survey["spec"]
        variables = [question["variable"] for question in survey["spec"]]
        assert len(variables) == len(set(variables))
        for question in survey["spec"]:
            assert question["type"] in {"text", "textarea", "password", "integer", "float", "multiplechoice"}
            assert question["question_name"] and isinstance(question["required"], bool)
            if question["type"] == "multiplechoice":
                assert all(isinstance(choice, str) and choice for choice in question["choices"])
                assert question["default"] in question["choices"]
            else:
                assert "choices" not in question and isinstance(question["default"], str)


def test_what_is_asked_is_read_by_the_playbook(objects):
    asked = {name: one["survey_spec"]["spec"] for name, one in surveys(objects).items()}
    for name, questions in asked.items():
        playbook = ROOT / "playbooks" / Path(named(objects, "job_templates")[name]["playbook"]).name
        text = re.sub(r"(?m)^#.*$", "", playbook.read_text())
        assert [one["variable"] for one in questions if not re.search(rf"\b{one['variable']}\b", text)] == []
    for schedule in objects["archipel_awx_schedules"]:
        # AWX takes no other variables than those that are asked for.
        variables = {one["variable"] for one in asked[schedule["unified_job_template"]]}
        assert set(schedule["extra_data"]) <= variables


def test_recurrences_are_such_as_awx_takes(objects):
    """awx.main.utils.common and https://docs.ansible.com/automation-controller: one start with a zone, an interval."""
    for schedule in objects["archipel_awx_schedules"]:
        start, rule = schedule["rrule"].split(" ")
        assert re.fullmatch(r"DTSTART;TZID=[\w/+-]+:\d{8}T\d{6}", start)
        assert re.fullmatch(r"RRULE:FREQ=(MINUTELY|HOURLY|DAILY|WEEKLY|MONTHLY|YEARLY);INTERVAL=[1-9]\d*", rule)


class Tower:
    """What AWX offers to injectors as ``tower``: where it has put the files."""

    def __init__(self, names):
        self.filename = type("Files", (), {name: f"/runner/env/{name}" for name in names})()


def injected(kind, fields):
    """The environment and the files that AWX makes of a credential whose ``fields`` are filled in."""
    environment = ImmutableSandboxedEnvironment()
    files = {name.partition(".")[2]: text for name, text in kind["injectors"]["file"].items()}
    tower = Tower(files)
    return (
        {
            name: environment.from_string(text).render(**fields, tower=tower)
            for name, text in kind["injectors"]["env"].items()
        },
        {f"/runner/env/{name}": environment.from_string(text).render(**fields) for name, text in files.items()},
    )


def test_injectors_are_such_as_awx_takes(objects):
    (kind,) = objects["archipel_awx_credential_types"]
    assert set(kind["injectors"]) <= {"env", "file", "extra_vars"}
    assert all(re.fullmatch(r"template(\.[a-zA-Z_]\w*)?", name) for name in kind["injectors"]["file"])
    assert not any(name.startswith("ANSIBLE_") for name in kind["injectors"]["env"])
    fields = {field["id"]: field for field in kind["inputs"]["fields"]}
    assert set(kind["inputs"]["required"]) <= set(fields)
    assert all(set(field) >= {"id", "label", "type"} for field in fields.values())
    assert fields["password"]["secret"] is True
    strict = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    values = dict.fromkeys(fields, "EXAMPLE")
    for texts in kind["injectors"].values():
        for text in texts.values():
            strict.from_string(text).render(**values, tower=Tower(["ca"]))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"server": None, "port": 5222, "ca_file": None}),
        ({"server": "", "port": "", "ca": ""}, {"server": None, "port": 5222, "ca_file": None}),
        (
            {"server": "xmpp.example.org", "port": "5223", "ca": "PEM"},
            {"server": "xmpp.example.org", "port": 5223, "ca_file": "/runner/env/ca"},
        ),
    ],
)
def test_a_credential_is_a_connection(objects, monkeypatch, more, expected):
    """Of the modules; with fields that nobody has filled in, too."""
    (kind,) = objects["archipel_awx_credential_types"]
    environment, files = injected(kind, {"jid": "automation@example.org", "password": "secret-1", **more})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    checked = ArgumentSpecValidator(_connection.argument_spec()).validate({})
    assert checked.error_messages == []
    options = _connection.options(checked.validated_parameters)._asdict()
    assert options == {"jid": "automation@example.org", "password": "secret-1", "timeout": 30.0, **expected}
    assert files == {"/runner/env/ca": more.get("ca", "")}


def test_credentials_fill_in_what_their_type_has(objects):
    (kind,) = objects["archipel_awx_credential_types"]
    credential = named(objects, "credentials")["Archipel"]
    assert set(credential["inputs"]) == {field["id"] for field in kind["inputs"]["fields"]}
    assert all(isinstance(value, str) for value in credential["inputs"].values())
    (task,) = [task for task in PLAY["tasks"] if "awx.awx.credential" in task]
    assert task["no_log"] is True
