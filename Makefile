# make demo    the main job in one screen: peers find each other, a worker is killed, nothing is lost
# make test    everything that must hold; make check is its first part
# Both set up .venv when it is missing or pyproject.toml has changed.

PYTHON ?= python3
DURATION ?= 15
SEEDS ?= 100000
N ?= 10000
HOSTS ?= 60
CROWD ?= 200
SECONDS ?= 60

# As if zq were installed: every process that a test or a benchmark starts would compile all of it again, for 150 ms
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo check test bench bench-servers proof-sim proof-kill proof-planted proof-backlog proof-door \
	proof-planted-holes proof-lan proof-spool-kill \
	proof-spool-crash proof-spool-bits proof-spool-backlog fuzz
.DELETE_ON_ERROR:

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "zq needs Python >= 3.11; this is " + sys.version.split()[0] + "; set PYTHON=")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,dev]'
	@touch $@

demo: setup
	@DURATION=$(DURATION) $(BIN)/python -m examples.host_monitor

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup
	@$(BIN)/python tests/run.py

# Everything, or some of it: make bench WORKLOAD=one-way PEERS=zq,zenoh
bench: setup
	@$(BIN)/python -m benchmarks $(if $(WORKLOAD),--workload $(WORKLOAD)) $(if $(PEERS),--peers $(PEERS))

# The libraries and servers that `make bench` puts zq beside, from PyPI and Debian; as root. None of them is started, now or at boot
bench-servers: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@sh benchmarks/install_servers.sh

# The simulator over many more schedules than `make test` takes: make proof-sim SEEDS=1000000
proof-sim: setup
	@$(BIN)/python -m tests.simulation --seeds 0-$(SEEDS)

# Real processes under random kills, stops, resets, partitions and loss until N faults were injected; needs root:
# make proof-kill N=1000
proof-kill: setup
	@$(BIN)/python -m tests.nemesis --faults $(if $(filter file,$(origin N)),1000,$(N))

# Producers, outboxes, a spool and consumers killed with -9 under load, and in loops while they recover, N times:
# make proof-spool-kill N=1000
proof-spool-kill: setup
	@$(BIN)/python -m tests.spoolkill $(if $(filter file,$(origin N)),1000,$(N))

# Bugs planted into zq, one after another: the simulator or a test has to find each
proof-planted: setup
	@$(BIN)/python -m tests.planted.bugs
	@$(BIN)/python -m tests.planted.spool_bugs
	@$(BIN)/python -m tests.planted.topic_bugs

# Crash images of the life of a spool's stream on a simulated disk: make proof-spool-crash N=1000000
proof-spool-crash: setup
	@$(BIN)/python -m tests.spool.campaign crash $(N)

# Every bit of a spool of 64 KiB and more flipped, one at a time: always noticed, never worth more than what it hits;
# some of them, spread over all: make proof-spool-bits N=20000
proof-spool-bits: setup
	@$(BIN)/python -m tests.spool.campaign bits $(if $(filter file,$(origin N)),,$(N))

# A backlog on a spool's disk: memory, opening again, catching up beside a producer: make proof-spool-backlog N=10000000
proof-spool-backlog: setup
	@$(BIN)/python -m benchmarks.kept $(if $(filter file,$(origin N)),1000000,$(N))

# A million messages that wait in one pusher: their memory, and how fast they are worked off
proof-backlog: setup
	@$(BIN)/python -m benchmarks.backlog

# Strangers at the doors of a peer, each with keys of his own: make proof-door N=100000
proof-door: setup
	@$(BIN)/python -m tests.security.proof_door $(N)

# Holes planted into zq, one after another: the trial of the doors or a test has to find each
proof-planted-holes: setup
	@$(BIN)/python -m tests.security.holes

# How soon many hosts of a simulated LAN, and many peers of one host, have met; needs root: make proof-lan HOSTS=100
proof-lan: setup
	@$(BIN)/python -m tests.lan.figures $(HOSTS) $(CROWD)

# Each decoder for so long with whatever atheris thinks of: make fuzz SECONDS=600. Where it cannot be installed, that is said
fuzz: setup
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check '.[fuzz]' || true
	@$(BIN)/python -m tests.fuzz $(SECONDS)
