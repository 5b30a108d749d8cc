# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""inventories/example as somebody copies it: a repository whose CI comes as far as the way to the platform."""

from __future__ import annotations

import shutil
from pathlib import Path

import gitlab_ci
import pytest
import yaml
from gitlab_ci import shell

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "inventories" / "example"
SITES = sorted(path.name for path in (EXAMPLE / "sites").iterdir())
CI = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())
MERGE_REQUEST = '$CI_PIPELINE_SOURCE == "merge_request_event"'


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy with the Vaults that its README asks for, not encrypted yet."""
    copy = tmp_path_factory.mktemp("example") / "repository"
    shutil.copytree(EXAMPLE, copy)
    for site in SITES:
        shutil.copy(copy / "sites" / site / "vault.yml.sample", copy / "sites" / site / "vault.yml")
        (copy.parent / site).write_text(f"password of {site}")
    return copy


@pytest.fixture(scope="module")
def encrypted(repository):
    """The same, with the Vaults encrypted."""
    told = shell(
        repository, *(f"ansible-vault encrypt --vault-id {site}@../{site} sites/{site}/vault.yml" for site in SITES)
    )
    assert told.returncode == 0, told.stderr
    return repository


@pytest.fixture(scope="module")
def cloned(encrypted):
    """The same as GitLab's runners clone it: everybody may write there."""
    clone = shutil.copytree(encrypted, encrypted.parent / "cloned")
    for path in (clone, *clone.rglob("*")):
        path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))
    return clone


def test_a_vault_that_is_not_encrypted_stops_ci(repository, request):
    assert "./encrypted" in CI["lint"]["script"]
    told = gitlab_ci.job(repository, "lint")
    assert told.returncode == 1
    assert told.stderr.count("is not encrypted") == len(SITES), told.stderr
    request.getfixturevalue("encrypted")
    told = gitlab_ci.job(repository, "lint")
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_ci_plans_each_site_on_a_merge_request():
    plan = CI["plan"]
    assert plan["extends"] == ".site" and {"if": MERGE_REQUEST} in plan["rules"]
    assert all("--check" in line and "--diff" in line for line in plan["script"])
    assert [one["SITE"] for one in CI[".site"]["parallel"]["matrix"]] == SITES
    # What changes something is no merge request's.
    changing = [name for name, job in CI.items() if "converge.yml" in str(job) and "--check" not in str(job)]
    assert changing == ["converge"] and MERGE_REQUEST not in str(CI["converge"]["rules"])


@pytest.mark.parametrize(("job", "site"), [("plan", "berlin"), ("plan", "paris"), ("drift", "berlin")])
def test_ci_gets_as_far_as_the_server(cloned, job, site):
    """Inventory, Vault, declarations and wrappers are right; the authority is missing, which only a run makes."""
    told = gitlab_ci.job(cloned, job, site, **{f"VAULT_PASSWORD_{site.upper()}": f"../{site}"})
    assert told.returncode == 2
    text = " ".join((told.stdout + told.stderr).split())
    assert f"ca_file: '{cloned}/sites/{site}/ca.pem' cannot be used" in text, text


@pytest.mark.parametrize(("site", "vms"), [("berlin", ["db", "web-1", "web-2"]), ("paris", ["backup"])])
def test_declarations_are_right_and_complete(encrypted, site, vms):
    """They are judged before anybody is asked."""
    options = f"-i sites/{site}/hosts.yml -e @sites/{site}/vault.yml --vault-id {site}@../{site}"
    (encrypted / "sites" / site / "vms" / "wrong.yml").write_text("{name: %s, memory: much}" % vms[0])
    told = shell(encrypted, f"ansible-playbook {options} playbooks/converge.yml")
    (encrypted / "sites" / site / "vms" / "wrong.yml").unlink()
    text = " ".join((told.stdout + told.stderr).split())
    assert told.returncode == 2 and "2 problems in the declarations" in text, text
    assert f"name '{vms[0]}' is that of" in text and "memory: 'much'" in text


def test_the_guests_are_an_inventory_each(repository):
    """Its plugin is found, and says what the environment is to give."""
    sources = " ".join(f"-i guests/{site}.archipel.yml" for site in SITES)
    told = shell(repository, f"ansible-inventory {sources} --list")
    assert told.returncode != 0
    assert "missing required arguments: password" in " ".join(told.stderr.split())
