# All commands; the README says what most of them are for. What they install goes into .venv, what they make into _build.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: site test fuzz strength portable lab clean upgrade browser bench pdf archive linkcheck student instructor slides assignments edit student-site student-pdf

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3.10 || command -v python3)
BIN := .venv/bin
HTML := _build/html
STAMP := .venv/.installed
UNFINISHED := _build/.unfinished
SPACE ?= 9
export CORES ?= 2
ASSIGNMENTS := _build/assignments/.made
# The environment is whole if this succeeds; its stamp, which would say so too, outlives the Python that it was made from.
WHOLE := $(shell $(BIN)/python -c 'import pip' >/dev/null 2>&1 && echo yes)
FIND_CHROMIUM := { command -v chromium || command -v chromium-browser || command -v google-chrome; }

# pip, the kernels and matplotlib keep files in the home folder; a folder of _build stands in for one that cannot be written to.
ifneq (0,$(shell test -d "$${HOME:-}" && test -w "$$HOME"; echo $$?))
export HOME := $(CURDIR)/_build/home
$(info Nothing can be written in your home folder; _build/home stands in for it.)
$(shell mkdir -p "$(HOME)")
endif

# A build that was interrupted, or ended with a warning, leaves pages that the next one would take for finished.
site: $(STAMP) $(ASSIGNMENTS)
	@if [ -e $(UNFINISHED) ]; then \
		echo "The last build did not finish: all pages are written anew. What chapters printed is kept."; \
		rm -rf $(HTML) _build/.doctrees; \
	fi
	@echo "Building the website: about 5 minutes on two cores the first time, most of them for running the chapters; then what changed."
	@touch $(UNFINISHED)
	@$(BIN)/jupyter-book build book --path-output . --config _config.yml --toc "$(CURDIR)/_toc.yml" -W -n --keep-going
	@rm $(UNFINISHED)
	@echo "The website is built. Open $(HTML)/index.html, or serve it with"
	@echo "    $(BIN)/python -m http.server --directory $(HTML) 8000"
	@echo "and open http://localhost:8000"

# One thread a process: the tests and the kernels of the notebooks share the cores through pytest -n.
# A notebook, a class of tests, and the rest of a file stay with one worker: cells run in order, a page is loaded once. They come in the
# order of the files; by the number of tests, as xdist would have them, a few long ones would be left for the end, and one core idle.
test: browser site
	@echo "Testing the package, the chapters and the website: about 15 minutes on two cores. A dot is a test that passed."
	@CHROMIUM=$$($(FIND_CHROMIUM)) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadscope --no-loadscope-reorder \
		--nbval-lax --nbval-current-env --nbval-cell-timeout 1800 tests book

# The search for trouble: round after round of the tests that draw, each with a new seed, until the minutes are over or one finds something.
MINUTES ?= 30
fuzz: $(STAMP)
	@end=$$((SECONDS + 60 * $(MINUTES))); round=0; \
	while (( SECONDS < end )); do \
		seed=$$((RANDOM * 32768 + RANDOM)); round=$$((round + 1)); \
		echo "Round $$round, seed $$seed"; \
		OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(CORES) --hypothesis-profile=fuzz --hypothesis-seed=$$seed tests; \
	done; \
	echo "$$round rounds without a finding."

# How much the tests notice: faults planted one at a time, hours for all; `make strength ONLY="ledger sgd"` for some.
strength: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python tools/strength.py $(ONLY) --record

# The numeric tests as on other machines: emulated processors, other numbers of threads.
portable: $(STAMP)
	@$(BIN)/python tools/portable.py

# The whole book in one PDF, printed by the Chromium that the browser tests use.
pdf: browser site
	@CHROMIUM=$$($(FIND_CHROMIUM)) $(BIN)/python tools/publish.py pdf

# The website in one zip, to carry along and to open without a network.
archive: site
	@$(BIN)/python tools/publish.py archive

# Asks every external link whether it is still there; without a network it lists them and says so. The site comes first: what
# Sphinx has read without a complaint here, it would not complain about there.
linkcheck: site
	@rm -rf _build/linkcheck
	@$(BIN)/jupyter-book build book --builder custom --custom-builder linkcheck --path-output . --config _config.yml --toc "$(CURDIR)/_toc.yml" -q >/dev/null 2>&1 || true
	@$(BIN)/python tools/publish.py links

# The chapters as a folder and a zip to hand out: without solutions for students, with them for instructors.
student instructor: $(STAMP) $(ASSIGNMENTS)
	@$(BIN)/python tools/editions.py $@

# The website and the PDF without solutions. The chapters are not run again; all pages are written anew, so that no older one stays.
STUDENT := _build/student-site/_build
student-site: site
	@rm -rf _build/student-site && mkdir -p $(STUDENT)
	@ln -s ../../.jupyter_cache ../../.ledger $(STUDENT)
	@CLT_EDITION=student $(BIN)/jupyter-book build book --path-output _build/student-site --config _config.yml --toc "$(CURDIR)/_toc.yml" -W -n --keep-going
	@echo "The website without solutions is built: $(STUDENT)/html/index.html"

student-pdf: browser student-site
	@CHROMIUM=$$($(FIND_CHROMIUM)) $(BIN)/python tools/publish.py pdf student

# The slides alone, to carry along; as a part of the website they are under teach/slides/.
slides: site
	@$(BIN)/python book/_ext/clt_slides.py _build/slides

# What students get and what grades them; every solution must get all points. The site wants only the first. `RECORD=--record`
# writes into the instructor's guide how long grading took here.
RECORD ?= --check
assignments: $(STAMP)
	@$(BIN)/python tools/make_assignments.py $(RECORD)

$(ASSIGNMENTS): $(STAMP) $(wildcard book/teach/assignments/*.ipynb tools/make_assignments.py)
	@$(BIN)/python tools/make_assignments.py
	@touch $@

# The chapters in plain Markdown, in the folder lab/. What you change there stays. jupyterlab-myst, which is for the sources, rests
# meanwhile: it shows no formulas in what is folded.
lab: $(STAMP)
	@$(BIN)/python tools/export.py lab
	@JUPYTER_CONFIG_PATH="$(CURDIR)/tools/jupyter" $(BIN)/jupyter lab lab

# The sources of the chapters, as authors change them.
edit: $(STAMP)
	@$(BIN)/jupyter lab book

clean:
	@rm -rf _build

# Some minutes, on a quiet machine; `make bench QUICK=--quick` for a glance that writes nothing.
bench: $(STAMP)
	@$(BIN)/python benchmarks/structure.py $(QUICK)

# Done again only when what is asked for has changed, or the environment broke. SPACE is how many GB must be free before the first time.
$(STAMP): requirements.txt pyproject.toml constraints.txt $(if $(WHOLE),,repair)
	@command -v "$(PYTHON)" >/dev/null || { echo "Given: no such Python: \`$(PYTHON)\`. Expected: Python 3.10 or later. Install one, or say where it is: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" tools/install.py --space $(SPACE)
	@touch $@

.PHONY: repair
repair:

# The newest versions that fit together, for all Pythons and systems, become the versions that everyone gets; only after `make test`
# passed with them. Those for a GPU are named with it: torch asks for them on Linux alone, and so does the list.
upgrade: $(STAMP)
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras pyproject.toml \
		--no-config --no-annotate --no-header --no-emit-index-url --no-emit-find-links -o constraints.txt
	@echo "constraints.txt has the newest versions. Run make test, and commit the file if that passes; git checkout constraints.txt goes back."

# The browser tests drive a Chromium that is installed on the machine.
browser:
	@if $(FIND_CHROMIUM) >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core; \
	else \
		echo "Given: no Chromium on the PATH. Expected: chromium, chromium-browser or google-chrome, for the tests in the browser." >&2; \
		echo "Install one (Debian: apt-get install chromium fonts-dejavu-core), then run make test again." >&2; \
		exit 1; \
	fi
