# Each target does its own set-up: `make train` and `make test` work in a fresh clone.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test docs ecosystem-test test-long pod-test fault-test soak errors kit bench ledger lint dist clean lock
train: .venv/installed
	$(BIN)/python -m experiments.train digits

# Nearly all of the time is compilation, one core a test: so one process a core.
test: .venv/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup

# The site, into docs/_build/html: every tutorial runs, and an error, a warning or a dead link fails. With DOCS=reduced the
# same cells run with fewer steps and seeds.
DOCS ?= full
docs: .venv-docs/installed
	.venv-docs/bin/python -m pytest tests/test_docs.py
	DOCS=$(DOCS) .venv-docs/bin/sphinx-build -W --keep-going -j auto -q -b html docs docs/_build/html
	.venv-docs/bin/linkchecker --config docs/extensions/linkcheckerrc docs/_build/html/index.html
	@echo "docs: open docs/_build/html/index.html"

# nvpjax.ecosystem beside numpyro, BlackJAX, distrax, TFP and arviz: an environment of its own, as for the peers.
ecosystem-test: .venv-ecosystem/installed
	.venv-ecosystem/bin/python -m pytest tests/test_ecosystem_*.py tests/test_types.py nvpjax/ecosystem

# What is left out of `make test`, and its searches at length: 20,000 wrong calls, 1,000 flipped bits, 200 hostile run
# directories. An hour.
test-long: .venv/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup -m long
	WRONG_CALLS=20000 BIT_FLIPS=1000 HOSTILE_DIRECTORIES=200 $(BIN)/python -m pytest -n auto --maxprocesses 8 -rP \
		--dist loadgroup tests/test_wrong_calls.py tests/test_hostile.py

# Two processes with two devices each on this machine; as often in a row as TIMES says.
TIMES ?= 1
pod-test: .venv/installed
	@for time in $$(seq $(TIMES)); do echo "pod-test $$time of $(TIMES)"; $(BIN)/python -m pytest -m pod -rP tests/faults || exit 1; done

# Kills at random moments and the faults of tests/test_faults.py.
fault-test: .venv/installed
	$(BIN)/python -m pytest -m "fault or not pod" -rP tests/faults tests/test_faults.py

# docs/errors.md: wrong inputs and what is said to them.
errors: .venv/installed
	$(BIN)/python -m tests.test_bad_input

# A run of MINUTES whose memory, files, threads, speed and compilations are watched.
MINUTES ?= 30
soak: .venv/installed
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

# The tables of docs/: which check catches which fault, rounding, and the kit on four other libraries; and every row of
# docs/coming_from.md beside the library that it is about. In an environment of its own, since what those libraries ask
# for is not what we pin.
kit: .venv-peers/installed
	.venv-peers/bin/python -m experiments.kit.mutants
	.venv-peers/bin/python -m experiments.kit.inversion
	.venv-peers/bin/python -m experiments.kit.far_ends
	.venv-peers/bin/python -m experiments.kit.peers
	.venv-peers/bin/python -m experiments.kit.names
	.venv-peers/bin/python -m experiments.kit.same_maps
	.venv-peers/bin/python -m pytest tests/test_coming_from.py

# docs/performance.md: depth, compilation, vectors beside six other libraries, fits, posteriors, continuous flows and images
# beside others, where their time goes, and what each config and model takes. An hour and a quarter, on a machine that does
# nothing else.
bench: .venv-peers/installed
	.venv-peers/bin/python -m experiments.bench.depth
	.venv-peers/bin/python -m experiments.bench.depth --strong
	.venv-peers/bin/python -m experiments.bench.compilation
	.venv-peers/bin/python -m experiments.bench.vectors
	.venv-peers/bin/python -m experiments.bench.vectors --layers 8 --transform spline
	.venv-peers/bin/python -m experiments.bench.fit
	.venv-peers/bin/python -m experiments.bench.posterior
	.venv-peers/bin/python -m experiments.bench.continuous --points 64
	.venv-peers/bin/python -m experiments.bench.image
	.venv-peers/bin/python -m experiments.bench.real_nvp
	JAX_PLATFORMS=cpu .venv-peers/bin/python -m experiments.bench.profile
	.venv-peers/bin/python -m experiments.bench.transformer
	.venv-peers/bin/python -m experiments.bench.inversion
	.venv-peers/bin/python -m experiments.bench.parts
	.venv-peers/bin/python -m experiments.bench.tails
	.venv-peers/bin/python -m experiments.bench.tables
	taskset -c 0 .venv-peers/bin/python -m experiments.bench.plane
	.venv-peers/bin/python -m experiments.bench.configs

# The results, published beside measured, from experiments/results into the README.
ledger: .venv/installed
	$(BIN)/python -m experiments.ledger

# Types too: of the library, and of programs that use it rightly and wrongly (tests/typing).
lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.typing.check

# The source distribution, the wheel that is built from it, and a look whether what came out of it works: the tests are
# found in the one, the library is imported from the other.
dist: .venv/installed
	rm -rf dist && $(BIN)/python -m venv dist/environment
	dist/environment/bin/python -m pip install --quiet --disable-pip-version-check build
	dist/environment/bin/python -m build --outdir dist > dist/build.log
	mkdir dist/unpacked && tar -xzf dist/*.tar.gz -C dist/unpacked --strip-components 1
	cd dist/unpacked && ../../$(BIN)/python -m pytest --collect-only -q -q > /dev/null
	cd dist && PYTHONPATH=$$(ls *.whl) ../$(BIN)/python -c "import nvpjax; assert '.whl' in nvpjax.__file__, nvpjax.__file__"
	@echo "dist: $$(ls dist/*.tar.gz) holds the tests, $$(ls dist/*.whl) is imported"

# Versions are pinned for Python 3.11 (JAX 0.10) and for 3.12 and newer (JAX 0.12) by markers in one lock file.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("nvpjax needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv: a minute or two, 1.1 GB ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv-peers/installed: pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[experiments,peers,peers-torch,testing]"
	@touch $@

.venv-ecosystem/installed: pyproject.toml
	$(PYTHON) -m venv .venv-ecosystem
	.venv-ecosystem/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[ecosystem,experiments,testing]"
	@touch $@

.venv-docs/installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

# Anew with the newest versions; needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate --upgrade \
		--extra test pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .venv-docs .venv-ecosystem .venv-peers dist docs/_build .jax_cache .pytest_cache .ruff_cache
