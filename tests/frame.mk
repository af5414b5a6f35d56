# Commands of those who work on the frame: included by the Makefile where the frame's own tests are.

.PHONY: frame-check copy update-copy copies simulate mutants compare chaos recovery bench pictures pythons container machine

# -n: five processes for each core, twelve at most, share one server of each kind. What they import is kept compiled, also
# where PYTHONDONTWRITEBYTECODE is set, as in many images: they and their workers would compile it a thousand times.
IN_PARALLEL := -n auto --dist loadgroup
test: export PYTHONDONTWRITEBYTECODE :=
CHECKS := frame-check

frame-check: setup
	$(PYTHON) -m ruff check --config pyproject.toml .
	$(PYTHON) -m ruff format --check --config pyproject.toml .
	$(PYTHON) -m mypy --config-file pyproject.toml

# WSL has a NAME in the environment: that of the machine.
copy: | $(PYTHON)  ## makes a slim copy of the frame, without its own tests; TO=../paid-orders NAME=paid-orders
	@$(PYTHON) -m deploy.frame copy "$(TO)" --name "$(if $(filter command,$(origin NAME)),$(NAME))"

update-copy: | $(PYTHON)  ## brings a copy that has no `make update` yet to the version that is here; COPY=path
	@$(PYTHON) -m deploy.frame update --copy "$(COPY)" $(if $(TO),--to "$(TO)" --back) $(if $(BASE),--base $(BASE)) $(ARGS)

copies: setup  ## edits copies of this as its users do, and checks and tests each; ARGS=--quick in a few minutes
	$(PYTHON) -m tests.copies $(ARGS)

simulate: setup  ## runs N=… schedules of the simulation (2,000); ARGS="--seed 7" for the same ones again
	$(PYTHON) -m tests.simulation $(or $(N),2000) $(ARGS)

mutants: setup  ## runs the simulation against bugs planted on purpose, each of which it must find
	$(PYTHON) -m tests.simulation.mutants

compare: setup  ## runs N=… schedules (100) on the simulation's model of Kafka and on a real broker, step by step
	$(PYTHON) -m tests.simulation.comparison $(or $(N),100) $(ARGS)

chaos: setup  ## plays every fault on real Kafka for MINUTES=… (20) in all; BROKERS=1 or 3; MODE=exactly_once or at_least_once
	$(PYTHON) -m tests.chaos --minutes $(or $(MINUTES),20) --brokers $(or $(BROKERS),1) --mode "$(MODE)" $(ARGS)

recovery: setup  ## measures how long new results take after the end of a worker
	$(PYTHON) -m tests.chaos.recovery $(ARGS)

bench: setup  ## measures the worker beside a bare loop and what could be used instead; ARGS=--help tells its parts
	$(PYTHON) -m bench.run $(ARGS)

pictures: setup  ## takes the documents' pictures of the status page; needs Chromium
	$(PYTHON) -m tests.pictures $(ARGS)

pythons: setup  ## runs the tests that need no service on each other Python from 3.11 on that this machine has
	sh tests/pythons.sh $(PYTHON) $(ARGS)

machine: setup  ## boots a Debian with systemd in a container, and runs the unit there; needs root, systemd-nspawn, debootstrap
	$(PYTHON) -m tests.machine

container: setup  ## builds the image without Docker, and runs it on real Kafka and MariaDB; needs root, buildah, podman
	$(PYTHON) -m tests.container
