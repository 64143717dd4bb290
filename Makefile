# make demo    the main job on the embedded default, in the real ComfyUI
# make test    style, unit tests, tests against the real ComfyUI
# COMFYUI_PATH=/path/to/ComfyUI uses that host; otherwise a private one is installed under .host/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?=
# named after the host, so that another COMFYUI_PATH has its requirements installed too
READY := $(VENV)/ready-$(shell printf %s "$(COMFYUI_PATH)" | cksum | cut -d ' ' -f 1)

.PHONY: help demo evaluate test test-browser lint clean

help:
	@sed -n '1,3p' Makefile

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

lint: $(VENV)/dev
	$(BIN)/ruff check .

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(CURDIR)/tests/unit $(CURDIR)/tests/host

test-browser: $(VENV)/dev
	$(BIN)/python -m pytest -q tests/browser

clean:
	rm -rf $(VENV) .host output
