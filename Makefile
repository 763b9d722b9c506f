# SPDX-License-Identifier: GPL-3.0-or-later
# Two commands matter: `make demo` and `make test`. Both set up what they need.
PY := .venv/bin/python
# Two test processes, a file stays in one of them. PARALLEL= runs them one after the other.
PARALLEL ?= -n 2 --dist loadfile
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: help setup demo dev test test-main test-embedded soak axe check format lint types layers migrations schema judges bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## .venv and system packages; done by the others when needed
	@scripts/setup

demo: setup ## see it work: lab, portal, backup, restore; CHECK=1 proves it, prints JSON and ends
	@exec $(PY) manage.py demo $(if $(CHECK),--check) $(DEMO_OPTIONS)

dev: setup ## portal, workers and beat on http://127.0.0.1:8000 from .data
	@exec $(PY) manage.py run

test: setup test-main test-embedded ## everything that must hold

test-main: setup ## on PostgreSQL and Redis, started privately
	$(PY) -m pytest -q $(PARALLEL) $(TESTS)

test-embedded: setup ## the smaller set on the embedded default (SQLite, a folder as broker)
	PORTAL_TEST_EMBEDDED=1 $(PY) -m pytest -q $(PARALLEL) -m "embedded and not slow"

soak: setup ## kill workers at random instants (KILLS=50 SEED=…) and run all long tests; JSON as the last line
	KILLS=$(or $(KILLS),50) SEED=$(SEED) $(PY) -m tests.soak $(TESTS)

judges: setup ## clients that nobody here wrote against the lab: the SDK's scripts, ovirt-img, Ansible (JUDGES="tests/…")
	$(PY) -m tests.judges $(JUDGES)

axe: setup ## every page through axe-core, in both themes
	$(PY) -m pytest -q -m slow tests/browser/test_accessible.py

check: setup lint types layers migrations schema ## style, types, dependency direction, migrations

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types:
	.venv/bin/mypy portal backups restores lab bench manage.py

layers:
	.venv/bin/lint-imports --no-cache

migrations:
	$(PY) manage.py makemigrations --check --dry-run

schema:
	$(PY) manage.py spectacular --validate --fail-on-warn --file /dev/null
	$(PY) manage.py api_problems

bench: setup ## our transfers beside ovirt-imageio's own client, about ten minutes; BENCH_OPTIONS=--help
	@exec $(PY) -m bench $(BENCH_OPTIONS)

format: setup ## let ruff format and fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean: ## remove .venv, caches and the development data
	rm -rf .venv .data .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
