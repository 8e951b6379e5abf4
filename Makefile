# make demo   the main job on the embedded default: five methods, three seeds, one table
# make demo-photos PHOTOS=folder   the same five methods on photos of your own, a sub-folder for each class
# make test   every feature; its last line counts the tests that are left to the next two
# make proof  the slow proofs: disasters, kills, PostgreSQL, browsers, every data set; as root installs what they need
# make storms  the long forms of some: ten deaths beside three trackers, fifty of a service, 10,000 malformed requests (20 minutes)
# make cluster-test   launching on several hosts in namespaces: as root, installs Slurm and an SSH server (20 minutes)
# make check  format, lint, types, import contracts, bandit
# make audit  known holes in the pinned packages: asks a database on the network, so no part of check
# make chaos  200 kills: 40 drivers, 40 workers, 20 nodes at random, and a hundred aimed ones (an hour and a half)
# make recovery   what survives which failure, and how long until work continues: the table of docs/durability.md (five minutes)
# make bench  every speed figure, as ratios of two things run in turn
# make calibration   how often the report is wrong, over made-up runs (ten minutes; ARGS=--short: one)
# make docs   the guide as a site in site/, built strictly; nothing in it asks another host
# make pictures RUN=runs/demo   screenshots of report, TensorBoard and site: all in .build/pictures, a few in docs/pictures
# make test-oldest   a short list of tests with the oldest libraries that pyproject.toml allows (own .venv-oldest, 5 GB)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
MLFLOW := .venv-mlflow
STAMP := $(VENV)/.ready

.PHONY: demo demo-photos docs pictures test test-oldest proof storms proof-packages cluster-test cluster-packages check audit bench calibration chaos recovery setup format clean

demo: $(STAMP)
	$(BIN)/cotuning-tune run search_spaces/demo.toml --storage runs

demo-photos: $(STAMP)
	@[ -d "$(PHOTOS)" ] || { echo "make demo-photos PHOTOS=folder: a sub-folder of photos for each class" >&2; exit 2; }
	$(BIN)/cotuning-tune run search_spaces/demo_photos.toml --storage runs --set "data.photos.root=$(abspath $(PHOTOS))" --name "$(notdir $(abspath $(PHOTOS)))"

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=20

test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest -q -W default -p no:cacheprovider tests/test_hyper.py tests/test_experiment.py \
		tests/test_relationship.py tests/methods/test_golden.py tests/methods/test_off.py tests/data/test_image_folder.py \
		tests/data/test_transforms.py tests/training/test_trainer.py tests/search/test_run.py tests/report/test_answer.py

$(OLDEST)/.ready: pyproject.toml $(STAMP)
	$(PYTHON) -m venv $(OLDEST)
	$(BIN)/uv pip install -q --python $(OLDEST)/bin/python --resolution lowest-direct -e '.[demo]' \
		'hypothesis>=6.130' 'pytest>=8.4' 'pytest-timeout>=2.4'
	touch $@

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: $(STAMP)
	$(BIN)/python scripts/screenshots.py $(RUN)

proof: proof-packages
	$(BIN)/python -m pytest -q -m proof --durations=20

storms: proof-packages
	$(BIN)/python -m pytest -q -m storm --durations=20

cluster-test: cluster-packages
	$(BIN)/python -m pytest -q -m "" tests/hosts tests/launch/test_kube_rules.py

proof-packages: $(STAMP) $(MLFLOW)/.ready
	sh scripts/system_packages.sh
	$(BIN)/uv pip install -q --no-deps --python $(BIN)/python -r requirements-trackio.lock

$(MLFLOW)/.ready: requirements-mlflow.lock $(STAMP)
	$(PYTHON) -m venv $(MLFLOW)
	$(BIN)/uv pip install -q --python $(MLFLOW)/bin/python -r requirements-mlflow.lock
	touch $@

cluster-packages: $(STAMP)
	sh scripts/system_packages.sh cluster
	$(BIN)/uv pip install -q --python $(BIN)/python -r requirements-cluster.lock

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > .build-imports.log || (cat .build-imports.log; rm .build-imports.log; exit 1)
	@tail -n 12 .build-imports.log; rm .build-imports.log
	$(BIN)/bandit -q -c pyproject.toml -r cotuning_tune scripts

audit: $(STAMP)
	@sh scripts/audit.sh $(BIN)/uv

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py

calibration: $(STAMP)
	@$(BIN)/python -m benchmarks.calibration $(ARGS)

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos.storm --drivers 40 --workers 40 --nodes 20 --trials 40 --json benchmarks/results/chaos.json
	$(BIN)/python -m tests.chaos.places --json benchmarks/results/chaos-aimed.json

recovery: $(STAMP)
	$(BIN)/python -m tests.chaos.recovery --json benchmarks/results/recovery-cpu.json

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml scripts/make_venv.sh
	PYTHON=$(PYTHON) VENV=$(VENV) sh scripts/make_venv.sh
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(MLFLOW) site build *.egg-info
