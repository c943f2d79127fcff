# make demo [ARGS=--once] | test | lint | docs | screenshot [ARGS=--dark] | clean |
#      explore | histories | soak | evict | holders | failover | waits | prices |
#      replies | redirects | fuzz | attack | mutants | matrix |
#      bench [ARGS=--quick] | bench-pytest | million
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test explore histories soak evict holders failover waits prices replies redirects matrix bench bench-pytest docs screenshot lint clean fuzz attack mutants million

demo: $(VENV)/ready-demo
	@$(BIN)/python -m smartredis_wsgi.demo $(ARGS)

# As many workers as processors; each has servers of its own. ARGS=-n0: none.
test: $(VENV)/ready-test
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

explore: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m explorer.run --slice full --workers 2 $(ARGS)

histories: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m histories.run $(ARGS)

million: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m million $(ARGS)

redirects: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m redirects.run $(ARGS)

soak: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m soak.run $(ARGS)

evict: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m illness.eviction $(ARGS)

holders: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m illness.holders $(ARGS)

failover: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m illness.failover $(ARGS)

waits: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m illness.waits

prices: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m illness.prices $(ARGS)

replies: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m illness.replies $(ARGS)

fuzz: $(VENV)/ready-fuzz
	cd tests && ../$(BIN)/python -m fuzz.run $(ARGS)

attack: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m attack.run $(ARGS)

mutants: $(VENV)/ready-mutants
	cd tests && ../$(BIN)/python -m mutation $(ARGS)

matrix: $(VENV)/ready-matrix
	$(BIN)/nox $(ARGS)

bench: $(VENV)/ready-bench
	$(BIN)/python bench/run.py $(ARGS)

bench-pytest: $(VENV)/ready-bench
	$(BIN)/python -m pytest bench -q --benchmark-only --benchmark-group-by=group \
	    --benchmark-columns=median,iqr,rounds --benchmark-sort=min $(ARGS)

docs: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m options_page

screenshot: $(VENV)/ready-test
	cd tests && ../$(BIN)/python -m screenshot $(ARGS)

lint: $(VENV)/ready-test $(VENV)/ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@
