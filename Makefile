# Everything a person types: `make demo`, `make test`, `make check`, `make bench`. All need only Python 3.11 and make.
PYTHON ?= python3
EXTRAS ?= dev
VENV   := .venv
BIN    := $(VENV)/bin

PACKAGES := chromium chromium-driver pgbouncer postgresql-15

.PHONY: install packages demo demo-drift test test-slow test-all test-fast test-postgres-15 test-recipes test-containers check docs bench bench-api \
  bench-forecast \
  bench-batches bench-gpu bench-ledger bench-peers bench-text recovery soak screenshots lock audit sbom release-check clean

install: $(VENV)/.installed $(VENV)/axe/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Scorebeat needs Python 3.11 or newer; run make PYTHON=python3.12 ...")'
	@echo "installing into $(VENV), the first time only: two to five minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

# axe-core, which tests run in the pages: one version, with its checksum. Without it they are skipped, and the next make
# tries again
$(VENV)/axe/.installed: tests/browser/axe.txt $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(@D) -r $< && touch $@ || echo "axe-core cannot be downloaded: tests that need it will be skipped"

# Debian's, which some tests run: a browser, PostgreSQL 15 (built with TLS), a pooler; and Compose and Kustomize, unpacked
# into .deploy. Without them those tests are skipped, each with its reason. None is needed to use Scorebeat.
packages:
	@command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] || { echo "not root on Debian; install yourself: $(PACKAGES)"; exit 1; }
	dpkg-query --show $(PACKAGES) >/dev/null 2>&1 || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES); }
	[ -d .deploy ] || tests/deploy/unpack.sh .deploy docker-compose kustomize

demo: install
	$(BIN)/scorebeat demo

# data that shift: the run is held, and readers keep the last good one until it is released
demo-drift: install
	$(BIN)/scorebeat demo --drift

# every quick test: some of each guarantee; CONTRIBUTING.md describes the speeds
test: install
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --quick

# what takes longer; CI runs both
test-slow: install
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --slow

# every test: all formats, types, commands and platforms
test-all: install
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# while you write: what needs no server or little, and one whole run
test-fast: install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --quick tests/unit tests/contract \
	  tests/integration/stack/test_end_to_end.py

# the same on Debian's PostgreSQL 15, the oldest that counts; `make test-all` runs a part of it
test-postgres-15: install
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --postgres=15 tests/integration

# the recipes of docs/how-to/use-with-orchestrators.md, run by Airflow, Dagster, Prefect and dbt, each in a virtual
# environment of its own with the versions of tests/recipes/requirements; TOOLS=dbt for one of them
TOOLS   ?= airflow dagster dbt prefect
RECIPES := .recipes
LOCKED  := tests/recipes/requirements

test-recipes: install $(TOOLS:%=$(RECIPES)/%/.installed)
	$(BIN)/python -m pytest --recipes $(RECIPES) tests/recipes -k '$(subst $() , or ,$(TOOLS))'

# docker-compose.yml and Kubernetes' pods from top to bottom, on this machine's Docker Engine or, as root on Debian, on
# one that is unpacked into .engine and runs meanwhile; skipped, with the reason, where there is none
test-containers: install
	tests/containers/with-engine.sh $(BIN)/python -m pytest -n 0 tests/containers

$(RECIPES)/%/.installed: $(LOCKED)/%.txt pyproject.toml
	$(PYTHON) -m venv --clear $(RECIPES)/$*
	$(RECIPES)/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(RECIPES)/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/docs/test_links.py tests/docs/test_lists.py tests/deploy/test_hashes.py

# docs/ as a site in build/site, with search and the API's docstrings; a link that leads nowhere fails it
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html; $(BIN)/mkdocs serve shows it while you write"

bench: install
	$(BIN)/python -m benchmarks.spine

# batches a second when a batch has few rows, and which process uses the processors for it; eight minutes
bench-batches: install
	$(BIN)/python -m benchmarks.small_batches

# documents a second: the whole path, the limit, the model alone by both engines; PROCESSES=2 for two of each.
# ROWS=1582045 PROCESSES=2 ROUNDS=3 is the size of the pattern's own example, 1.6 GB of texts
bench-text: ROWS = 20000
bench-text: install
	$(BIN)/python -m benchmarks.text --rows $(ROWS) --processes $(or $(PROCESSES),1) --rounds $(or $(ROUNDS),5)

# what people would use instead, on the same server and rows, installed in .peers with the versions of
# benchmarks/peers/requirements.txt (1.7 GB, some minutes); about a quarter of an hour. MOST=1000 ROUNDS=1 only tries the code
PEERS := .peers
bench-peers: install $(PEERS)/.installed
	$(BIN)/python -m benchmarks.peers --environment $(PEERS) --rounds $(or $(ROUNDS),3) \
	  $(if $(WORKLOADS),--workloads $(WORKLOADS)) $(if $(ONLY),--peers $(ONLY)) $(if $(MOST),--most $(MOST))

# Spark needs a Java of your own, too, and Debian's JDBC driver; without them it is left out
$(PEERS)/.installed: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	cd $(PEERS) && apt-get download -qq libpostgresql-jdbc-java && dpkg-deb -x libpostgresql-jdbc-java_*.deb jdbc || \
	  echo "the JDBC driver cannot be downloaded by apt-get: Spark will be left out"
	touch $@

# one GPU: how busy it is kept; DEVICE=cpu ROWS=2000 LAYERS=1 WIDTH=64 only tries the code
DEVICE ?= cuda:0
LAYERS ?= 6
WIDTH  ?= 512
bench-gpu: ROWS = 1000000
bench-gpu: install
	$(BIN)/python -m benchmarks.gpu --device $(DEVICE) --rows $(ROWS) --layers $(LAYERS) --width $(WIDTH)

# from each fault to the work going on, beside its bound; ten minutes, most of them a row that hangs
recovery: install
	$(BIN)/python -m benchmarks.recovery

# what the ledger and the broker carry and cost, without models, over a million old batches, for WORKERS scoring
# processes one after the other; six minutes. BATCHES=20000 WORKERS=4,16 for a short one
WORKERS ?= 8,64,512
BATCHES ?= 1000000
bench-ledger: install
	$(BIN)/python -m benchmarks.ledger --workers $(WORKERS) --batches $(BATCHES)

# one stored prediction by its key: the HTTP API beside plain psycopg2
bench-api: install
	$(BIN)/python -m benchmarks.api_latency

# forecasts of real runs beside what then happened; eight minutes
bench-forecast: install
	$(BIN)/python -m benchmarks.forecast

# faults of every kind over a run of two million rows; MINUTES=1 ROWS=100000 for a short one
MINUTES ?= 10
ROWS    ?= 2000000
soak: install
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --rows $(ROWS)

# docs/images: both pages of the Runs tab, taken in a headless Chromium
screenshots: install
	$(BIN)/python -m tests.browser.screenshots

# writes constraints.txt anew from the newest versions that pyproject.toml admits: what tests install, then what only
# images do, which is worked out but not installed; then requirements/*.txt, what images install, with the files'
# hashes, tests/recipes/requirements/*.txt and benchmarks/peers/requirements.txt
lock:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools > constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --report $(VENV)/images.json \
	  -c constraints.txt '.[torch,xgboost,s3,gs,azure]'
	$(BIN)/python -m tests.deploy.locked < $(VENV)/images.json >> constraints.txt
	LC_ALL=C sort -fu -o constraints.txt constraints.txt
	rm -rf .lock
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14'
	$(BIN)/python -m tests.deploy.hashed .lock/bin/uv
	for tool in $(TOOLS); do .lock/bin/uv --no-config pip compile pyproject.toml $(LOCKED)/$$tool.in --universal \
	  --python-version 3.11.9 --no-header --no-annotate --quiet --upgrade -o $(LOCKED)/$$tool.txt || exit 1; done
	.lock/bin/uv --no-config pip compile benchmarks/peers/requirements.in -c constraints.txt --universal \
	  --python-version 3.11.9 --no-header --no-annotate --quiet --upgrade -o benchmarks/peers/requirements.txt
	touch $(VENV)/.installed

# the locked versions beside the public list of known weaknesses. One that does not concern us is named here by
# --ignore-vuln, with the reason; none is. Fails, too, if the list cannot be reached
audit:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3'
	.audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt

# what an image installs beside its base, as CycloneDX: the files that its build reads, each package at its version and with
# its files' hashes. IMAGE_EXTRAS=s3,lightgbm for an image that is built with these EXTRAS
IMAGE_EXTRAS ?=
SBOM ?= dist/scorebeat.cdx.json
comma := ,
sbom:
	$(PYTHON) -m venv .sbom
	.sbom/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7.5,<8'
	mkdir -p $(dir $(SBOM))
	cat requirements/base.txt $(patsubst %,requirements/%.txt,$(subst $(comma), ,$(IMAGE_EXTRAS))) > .sbom/installed.txt
	PYTHONWARNINGS=ignore::UserWarning .sbom/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --sv 1.6 --of JSON -o $(SBOM) .sbom/installed.txt

# what would be uploaded: built from a clean tree, checked, installed alone, its demo run to the end; some minutes
release-check:
	$(PYTHON) -m tests.deploy.release

clean:
	rm -rf $(VENV) .audit .deploy .engine .lock .peers .recipes .sbom dist .scorebeat .mypy_cache .ruff_cache .pytest_cache
