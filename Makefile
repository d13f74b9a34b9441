# The four commands of the README. Everything lives in .venv and _build; `make clean` removes _build.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: site test lab clean browser

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
HTML := _build/html
STAMP := .venv/.installed
CORES ?= 2

# Reinstalled only when what is asked for changes.
$(STAMP): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.10 or later, or say where it is: make PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Given: Python " + sys.version.split()[0] + ". Expected: 3.10 or later. Say where one is: make PYTHON=/path/to/python")'
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

site: $(STAMP)
	@$(BIN)/jupyter-book build book --path-output . --config _config.yml --toc $(CURDIR)/_toc.yml -W -n --keep-going
	echo "Open $(HTML)/index.html, or serve it: $(BIN)/python -m http.server --directory $(HTML) 8000, then http://localhost:8000"

# One thread a process: the tests and the kernels of the notebooks share the cores through pytest -n.
test: browser site
	@export OMP_NUM_THREADS=1
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 600 tests book

lab: $(STAMP)
	@$(BIN)/jupyter lab book

# The browser tests drive a Chromium that is installed on the machine.
browser: $(STAMP)
	@if $(BIN)/python tests/browser.py; then exit 0; fi
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core
	else
		echo "Given: no Chromium on the PATH. Expected: chromium, chromium-browser or google-chrome. Install one (Debian: apt-get install chromium fonts-dejavu-core)." >&2
		exit 1
	fi

clean:
	@rm -rf _build
