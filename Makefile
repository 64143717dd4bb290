# make demo    the main job on the embedded default, in the real ComfyUI
# make test    style, unit tests, tests against the real ComfyUI
# COMFYUI_PATH=/path/to/ComfyUI uses that host; otherwise a private one is installed under .host/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?=

.PHONY: help demo evaluate test test-browser lint clean

help:
	@sed -n '1,3p' Makefile

$(VENV)/ready: pyproject.toml cli/host_install.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	$(BIN)/python -m hyperdreambooth doctor --install-host
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/python -m hyperdreambooth demo $(if $(IMAGE),--image $(IMAGE))

evaluate: $(VENV)/ready
	$(BIN)/python -m hyperdreambooth evaluate

lint: $(VENV)/ready
	$(BIN)/ruff check .

test: lint
	$(BIN)/python -m pytest -q tests/unit tests/host

test-browser: $(VENV)/ready
	$(BIN)/python -m pytest -q tests/browser

clean:
	rm -rf $(VENV) .host output
