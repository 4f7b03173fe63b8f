# Everything a newcomer needs: `make dev` runs the service, `make test` checks it.
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: dev test check bench faults faults-full screenshots lint clean

dev: .venv/installed
	@$(BIN)/kongflow-events dev $(if $(PORT),--port $(PORT))

test: .venv/installed
	@.ci/services rabbitmq node
	@.ci/timed "make test" .ci/test

check: .venv/installed
	@.ci/services rabbitmq node postgresql compiler prometheus chromium nginx compose systemd curl jq
	@.ci/timed "make check" .ci/check

# How fast it is, beside what a team would write by hand and the limit of the machine: docs/performance.md.
bench: .venv/installed
	@.ci/services rabbitmq node postgresql compiler
	@.ci/timed "make bench" $(BIN)/python -m benchmarks.compare

# Everything that is known to break a service, done to this one: docs/reliability.md.
faults: .venv/installed
	@.ci/services rabbitmq
	@.ci/timed "make faults" .ci/faults --again

faults-full: .venv/installed
	@.ci/services rabbitmq compiler
	@.ci/timed "make faults-full" .ci/faults --full --seed 1 --seed 2 --seed 3

# The pictures of the console in docs/screenshots, as its browser tests see it.
screenshots: .venv/installed
	@.ci/services node chromium
	$(BIN)/python -m pytest -q tests/chromium/test_pages.py -k anybody --screenshots docs/screenshots

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .cache build dist

.venv/installed: pyproject.toml
	@.ci/install
	@touch $@
