# make reproduce   everything from a fresh machine: environment, stand-in data, all notebooks, a summary
# make test        environment, then everything that CI runs
# Narrow with PAPER=quadruplet_cars196 PROFILE=smoke SLOTS=2. Needs git, make and Python 3.11, 3.12 or 3.13.

PROFILE ?= smoke
SLOTS ?= 2
PAPER ?= $(patsubst notebooks/%.ipynb,%,$(wildcard notebooks/*.ipynb))
DATA := $(or $(PAPERS_DATA),data)

FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c "$(FITS)" >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
MADE := cars196 market1501 dukemtmc msmt17_v1 pedestrians_warmup pedestrians_many cifar10 sysu30k \
	coco2017 voc0712 faces_emore
STANDIN := $(MADE:%=$(DATA)/standin/%/STANDIN.json)

.PHONY: reproduce test lint types unit smoke nbval lab bench data clean

reproduce: $(READY) data
	@for paper in $(PAPER); do $(PY) -m papers_lib run $$paper -p profile $(PROFILE) -p slots $(SLOTS) || exit; done
	@for paper in $(PAPER); do echo; echo "figures/$$paper/$(PROFILE):"; ls figures/$$paper/$(PROFILE); done
	@echo; $(PY) -m papers_lib coverage

test: lint types unit smoke nbval

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(READY)
	$(VENV)/bin/mypy

unit: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

# Every notebook at smoke, then the committed outputs against a fresh run; both read one run store,
# so that each smoke run trains once.
smoke: $(READY) data
	@for paper in $(PAPER); do $(PY) -m papers_lib run $$paper -p profile smoke -p slots $(SLOTS) || exit; done

nbval: $(READY) data
	$(PY) -m pytest notebooks --nbval --nbval-current-env --nbval-sanitize-with=tests/nbval.cfg \
		--nbval-cell-timeout=120 --timeout=150 -p no:cacheprovider

data: $(STANDIN)

$(DATA)/standin/%/STANDIN.json: | $(READY)
	$(PY) -m data_prep make $* $(DATA)/standin/$* --size smoke

lab: $(READY) data
	$(VENV)/bin/jupyter lab notebooks

bench: $(READY)
	$(PY) -m benchmarks.selection
	$(PY) -m benchmarks.retrieval
	$(PY) -m benchmarks.samplers
	$(PY) -m benchmarks.pseudo_labels
	$(PY) -m benchmarks.proxy_loss
	$(PY) -m benchmarks.reid_ranking
	$(PY) -m benchmarks.triplet_loss
	$(PY) -m benchmarks.augmentation
	$(PY) -m benchmarks.ssl_epoch
	$(PY) -m benchmarks.large_gallery
	$(PY) -m benchmarks.enumeration
	$(PY) -m benchmarks.verification
	$(PY) -m benchmarks.cifar_epoch

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 on the path; install one" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis figures/*/smoke
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
