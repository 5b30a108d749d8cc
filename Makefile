# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The only entry point. Every target installs what it lacks; stamps in .cache/ make the second time quick.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
PYTHON ?= python3.11
LAB := tests/lab/lab
INVENTORY := -i inventories/lab
COLLECTION := .ansible/collections/ansible_collections/archipel/platform

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# What molecule and ansible-lint prepare for themselves belongs to this checkout too.
export ANSIBLE_HOME := $(CURDIR)/.ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: demo
demo: setup ## the platform on three hosts of this machine, from bare Debian to a live migration
	@tests/lab/demo

.PHONY: test
test: export ARCHIPEL_SKIP_TAGS ?= long
test: setup ## what CI runs: lint, docs, sanity, units, platform and roles on real hosts
	@tests/tools/sections lint docs sanity unit molecule roles

.PHONY: test-all
test-all: export ARCHIPEL_RANDOM_ROUNDS ?= 60
test-all faults: export ARCHIPEL_FAULT_OPERATIONS ?= 300
test-all faults: export ARCHIPEL_FAULT_STEPS ?= 1000
test-all faults: export ARCHIPEL_FLEET_KILLS ?= 30
test-all: setup ## everything on Debian 12 and 13, with the long forms and benchmarks
	@tests/tools/sections lint docs sanity unit molecule molecule-trixie roles-bookworm roles-trixie bench

.PHONY: lint
lint: setup ## ansible-lint (production), yamllint, ruff, shellcheck, changelog fragments
	ansible-lint
	yamllint --strict .
	ruff check .
	git ls-files ':!*.j2' | xargs awk 'FNR == 1 && /^#!\/(bin\/sh|usr\/bin\/env bash)/ { print FILENAME }' | xargs shellcheck
	antsibull-changelog lint

.PHONY: docs
docs: setup ## links and commands in Markdown, documentation of modules and roles
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
	pytest tests/docs

.PHONY: sanity
sanity: setup ## ansible-test sanity
	tests/tools/sanity

.PHONY: unit
unit: setup ## unit tests
	pytest

.PHONY: molecule molecule-trixie
molecule: setup ## the whole platform on a lab of its own (Debian 12)
	tests/tools/molecule platform
molecule-trixie: setup ## the same on Debian 13
	tests/tools/molecule platform trixie

.PHONY: roles roles-bookworm roles-trixie
roles: setup ## each role by itself on Debian 13, in short
	ARCHIPEL_SKIP_TAGS=long tests/tools/roles trixie
roles-bookworm: setup ## each role by itself on Debian 12
	tests/tools/roles bookworm
roles-trixie: setup ## each role by itself on Debian 13
	tests/tools/roles trixie

.PHONY: bench
bench: setup ## benchmarks on the lab
	python tests/benchmark/run.py

.PHONY: faults
faults: lab-up ## 300 random operations under faults; each operation killed between every two durable steps
	pytest -s $(addprefix tests/integration/test_archipel_,agent_faults.py agent_killed.py migration_cut.py)

.PHONY: lab-up
lab-up: setup ## three hosts with the platform on them
	$(LAB) up
	ansible-playbook $(INVENTORY) playbooks/site.yml

.PHONY: lab-down
lab-down: ## remove the lab's hosts
	$(LAB) down

.PHONY: lab-env
lab-env: ## shell exports with which the modules reach the lab
	@$(LAB) env

.PHONY: clean
clean: lab-down ## remove the lab and everything that make has set up in this checkout
	rm -rf .ansible .cache .venv

# Set-up

.PHONY: setup
setup: .cache/packages .cache/venv $(COLLECTION)

.cache/packages: tests/tools/packages
	@mkdir -p $(@D)
	tests/tools/packages >&2
	@touch $@

.cache/venv: requirements/dev.txt | .cache/packages
	$(PYTHON) -m venv .venv >&2
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $< >&2
	@touch $@

$(COLLECTION):
	@mkdir -p $(@D)
	@ln -sfn $(CURDIR) $@
