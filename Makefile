# make demo    the main job on the embedded default, in the real ComfyUI
# make test    style, unit tests, tests against the real ComfyUI
# make tables  the comparison with rival methods (hours; QUICK=1: a slice of it in minutes)
# COMFYUI_PATH=/path/to/ComfyUI uses that host; otherwise a private one is installed under .host/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?=
QUICK ?=
# named after the host, so that another COMFYUI_PATH has its requirements installed too
READY := $(VENV)/ready-$(shell printf %s "$(COMFYUI_PATH)" | cksum | cut -d ' ' -f 1)

.PHONY: help demo evaluate tables test test-browser lint clean

help:
	@sed -n '1,4p' Makefile

$(READY): pyproject.toml cli/host_install.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	$(BIN)/python -m hyperdreambooth doctor --install-host
	rm -f $(VENV)/ready*
	touch $@

# what only the tests need: pytest, ruff, and libraries that draw and look at pages
$(VENV)/dev: $(READY)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python -m hyperdreambooth demo $(if $(IMAGE),--image "$(IMAGE)")

evaluate: $(READY)
	$(BIN)/python -m hyperdreambooth evaluate

tables: $(VENV)/dev
	$(BIN)/python -m hyperdreambooth.bench.tables $(if $(QUICK),--quick)

lint: $(VENV)/dev
	$(BIN)/ruff check .

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile "$(CURDIR)/tests/unit" "$(CURDIR)/tests/host"

test-browser: $(VENV)/dev
	$(BIN)/python -m pytest -q tests/browser

clean:
	rm -rf $(VENV) .host output
