# Everything starts from a bare checkout: Python >= 3.11, git and make.
#   make demo   a simulated fleet, a real playbook run against it, and the proof of what was copied
#   make test   everything that CI runs
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint unit e2e sanity package molecule awx docs bench env kerberos clean

TOOLS := tests/tools
export LC_ALL := C.UTF-8
export PYTHONDONTWRITEBYTECODE := 1

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## simulated fleet, backup run, proof (makes its own environment)
	@$(TOOLS)/env run
	@$(TOOLS)/demo

test: ## everything that CI runs
	@$(TOOLS)/test

env: ## the development environment in .venv
	@$(TOOLS)/env dev

lint: env ## ruff, mypy, yamllint, ansible-lint, changelog, documentation
	@$(TOOLS)/lint

unit: env ## unit tests of the collection and of the simulator
	@$(TOOLS)/unit

e2e: env ## ansible-playbook against the simulator
	@$(TOOLS)/e2e

sanity: env ## ansible-test sanity
	@$(TOOLS)/sanity dev

package: env ## build, install, ansible-doc from the installed tarball
	@$(TOOLS)/package

molecule: env ## the molecule scenarios against the simulator
	@$(TOOLS)/molecule

awx: ## extensions/awx with the modules of awx.awx (downloads 550 MB; not part of make test)
	@$(TOOLS)/awx

docs: env ## check the documentation and render it to docs/_build
	@$(TOOLS)/docs

bench: env ## requests, time and memory; writes the table of docs/performance.md
	@$(TOOLS)/bench

kerberos: env ## add the Kerberos extras to .venv (compiles; needs libkrb5-dev and gcc)
	@$(TOOLS)/env kerberos

clean: ## remove everything that make created
	rm -rf .venv .venv-* .build .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible docs/_build tests/output
