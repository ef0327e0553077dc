# Every target makes what it needs: the virtual environment is built once, from pinned versions.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints/py311.txt

# Small nets are bound by latency: two levels of threads slow them down.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint format docs bench clean

demo: $(VENV)/.test
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	SCIPY_ARRAY_API=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term --cov-fail-under=95

lint: $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/numpydoc lint $$(git ls-files 'randsmooth/*.py')

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.test $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# COHEN=path/to/core.py, from the repository locuslab/smoothing, adds the reference loop.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/bounds_speed.py
	$(BIN)/python benchmarks/throughput.py $(if $(COHEN),--cohen $(COHEN))

clean:
	rm -rf $(VENV) build docs/_build docs/auto_examples docs/api/generated

$(VENV)/.created: constraints/py311.txt
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch goes first and alone: the constraints pick a build without CUDA where an index offers one.
$(VENV)/.test: $(VENV)/.created pyproject.toml setup.py
	$(PIP) torch
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) --editable '.[lint]'
	touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) --editable '.[bench]'
	touch $@

$(VENV)/.docs: $(VENV)/.test
	$(PIP) --editable '.[docs]'
	touch $@
