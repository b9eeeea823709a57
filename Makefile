# Each target sets up .venv by itself, with the versions pinned in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quality clean

demo: .venv/installed
	$(BIN)/python pipelines/filter_conversations.py --overwrite

test: .venv/installed
	$(BIN)/python -m pytest

quality: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,train]'
	touch $@

clean:
	rm -rf .venv demo-output
