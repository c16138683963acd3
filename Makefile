# make demo  | the whole library in one page: demo/index.html
# make test  | every test
# make check | lint, format, types, import contracts
# make docs  | the documentation: docs/_build/index.html
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check docs clean

.venv/demo: pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[demo]'
	touch $@

.venv/dev: pyproject.toml .venv/demo
	$(PIP) --editable '.[dev]'
	touch $@

demo: .venv/demo
	.venv/bin/scorefield demo --out demo

# a process for each core: what is tested is small, and a second thread costs more than it does
test: .venv/dev
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --dist worksteal

check: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

docs: .venv/demo
	$(PIP) --editable '.[docs]'
	.venv/bin/sphinx-build -W --keep-going -q -b html docs docs/_build

clean:
	rm -rf .venv demo docs/_build
