# Every command of this project; each sets up what it needs. `make` alone lists them.

PYTHON := .venv/bin/python
PYTHONS ?= python3.14 python3.13 python3.12 python3.11 python3
REQUIREMENTS := requirements.txt requirements-dev.txt
LOCKS := $(REQUIREMENTS:.txt=.lock)
UV := uv==0.13.9
# uv reads neither pip.conf nor PIP_INDEX_URL and the like: it shall look where pip looks, in a mirror, say, or in an index
# of your own. It takes several with a blank between them, but places of files with a comma.
PIP_CONFIG = $$($(PYTHON) -m pip config get global.$(1) 2>/dev/null | xargs)
AS_PIP = index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$(call PIP_CONFIG,index-url)}}"; \
    more="$${UV_INDEX:-$${PIP_EXTRA_INDEX_URL:-$(call PIP_CONFIG,extra-index-url)}}"; \
    files="$${UV_FIND_LINKS:-$$(echo $${PIP_FIND_LINKS:-$(call PIP_CONFIG,find-links)} | tr ' ' ,)}"; \
    cert="$${SSL_CERT_FILE:-$${PIP_CERT:-$(call PIP_CONFIG,cert)}}"; \
    trusted="$${UV_INSECURE_HOST:-$${PIP_TRUSTED_HOST:-$(call PIP_CONFIG,trusted-host)}}"; \
    [ -z "$$cert" ] || export SSL_CERT_FILE="$$cert"; \
    [ -z "$$trusted" ] || export UV_INSECURE_HOST="$$trusted"; \
    [ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
    [ -z "$$more" ] || export UV_INDEX="$$more"; \
    [ -z "$$files" ] || export UV_FIND_LINKS="$$files";

# The oldest Python that shall do with the locks. Another one than 3.11 stands at the top of requirements.lock, and so stays.
LOCK_PYTHON ?= $(or $(shell sed -n 's/.*make lock LOCK_PYTHON=//p' requirements.lock),3.11)
LOCK_COMMAND = $(AS_PIP) $(PYTHON) -m uv pip compile --quiet --universal --python-version $(LOCK_PYTHON) --generate-hashes \
    --no-emit-index-url --custom-compile-command "make lock$(patsubst %, LOCK_PYTHON=%,$(filter-out 3.11,$(LOCK_PYTHON)))"

UNKNOWN_CA := If it says "invalid peer certificate" above: SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt make lock.

# For `make wheels`: the Python of the Dockerfile, and the machines on which the image shall be built: x86_64, aarch64.
WHEELS_PYTHON ?= 3.13
WHEELS_ARCHITECTURES ?= $(subst arm64,aarch64,$(shell uname -m))
# Directories of your own, beside worker.py; and your files among the frame's tests.
OWN = $(shell sh deploy/image.sh own)$(if $(filter-out 0,$(.SHELLSTATUS)),$(error see above))
# In a slim copy all tests are yours.
OWN_TESTS = $(if $(wildcard tests/frame.mk),$(or $(wildcard tests/test_worker*.py),tests/test_worker.py),$(wildcard tests))

NO_WHEEL := where it says "from versions: none" a package has no wheel for that Python and machine (docs/run-and-watch.md, As a container), or the index was not reached, which stands above it

# defaults.py is imported before worker.py, as by a worker. Beside the frame's tests tests/conftest.py sees to that, for yours alone.
DEFAULTS_FIRST = -p utils.cases

# $(2) where $(1) has no Python: it was not made yet, or its link leads nowhere since the Python of the machine was upgraded.
# Its packages are gone then, too, whatever the stamp says; and venv leaves such a link as it is, if it is not told --clear.
IF_GONE = $(if $(realpath $(1)/bin/python),,$(2))
# $(2) where the stamp of $(1) does not say that it was made here: it was moved or copied, or is of a version whose stamps said nothing.
IF_MOVED = $(if $(shell [ "$$(cat $(1)/locked $(1)/done 2>/dev/null)" = "$$(cd $(1) 2>/dev/null && pwd -P)" ] || echo moved),$(2))
STAMP = @(cd $(@D) && pwd -P >$(@F))

MANYLINUX := manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_34

.DEFAULT_GOAL := help
# What needs the frame's own tests and benchmarks, which slim copies do without.
-include tests/frame.mk

.PHONY: help setup demo test test-mine check update frame-test image-check deploy-check rules pack pack-check audit
.PHONY: packable wheels lock again

ifneq ($(wildcard update-in-progress/finish.sh),)
$(error an update of the frame was interrupted: sh update-in-progress/finish.sh ends it)
endif

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/locked  ## makes .venv with the newest Python (3.11 at least) and the locked packages

demo: setup  ## runs the worker with nothing around it; ARGS="--results 20" ends it
	$(PYTHON) main.py demo $(ARGS)

test: setup  ## runs the tests; ARGS='-k some_name' for some of them
	$(PYTHON) -m pytest $(or $(IN_PARALLEL),$(DEFAULTS_FIRST)) $(ARGS)

test-mine: setup  ## runs your tests only: those in tests/ (beside the frame's: test_worker*.py), and in directories of your own
	$(PYTHON) -m pytest $(DEFAULTS_FIRST) $(OWN_TESTS) $(OWN) $(ARGS)

check: setup $(CHECKS)  ## that Python can read your files, and import worker.py; where the frame's tests are, ruff and mypy for the frame's files, too
	$(PYTHON) -m compileall -q $(wildcard *.py) $(OWN_TESTS) $(OWN)
	$(PYTHON) main.py --version >/dev/null
	$(PYTHON) -m utils.processing.user_code

update: | $(PYTHON)  ## brings this copy to a newer frame; FROM=clone, address or bundle, TO=version, ARGS="--check" or "--markers"
	@FRAME_PYTHON="$(PYTHON)" sh deploy/update.sh "$(FROM)" "$(TO)" $(if $(BASE),--base $(BASE)) $(ARGS)

frame-test: setup  ## runs the frame's tests on this copy, where you have edited the frame; FROM=clone, address or bundle
	$(PYTHON) -m deploy.frame test "$(FROM)" $(if $(BASE),--base $(BASE)) --arguments="$$ARGS"

image-check: setup  ## does what the Dockerfile does, without Docker, and runs the result
	PYTHON=$(PYTHON) sh deploy/image-check.sh

deploy-check: .venv-deploy/done  ## holds compose.yaml, the manifests and the unit against the schemas of those who read them
	.venv-deploy/bin/python deploy/check.py

packable:
	@said=$$(git rev-parse --git-dir 2>&1 >/dev/null) || { echo "pack: only what git knows is packed, and git says: $$said" \
	    "(where there is no repository yet: git init && git add --all)" >&2; exit 1; }

pack: packable setup wheels .venv-deploy/done  ## packs tree, wheels, base image and SBOM for a machine without a network; ARCHIVE=…
	CYCLONEDX=.venv-deploy/bin/cyclonedx-py sh deploy/pack.sh "$(or $(ARCHIVE),consumer.tar)"

pack-check: setup .venv-deploy/done  ## packs, and installs that without a network
	PYTHON=$(PYTHON) CYCLONEDX="$(CURDIR)/.venv-deploy/bin/cyclonedx-py" sh deploy/pack-check.sh

audit: .venv-deploy/done  ## asks for known faults of the locked packages; AUDIT_URL=… of a mirror of OSV; AUDIT_OWN='NAME …'
	.venv-deploy/bin/python deploy/target.py $(WHEELS_PYTHON) $(firstword $(WHEELS_ARCHITECTURES)) <requirements.lock >.venv-deploy/target.lock
	@.venv-deploy/bin/pip-audit --requirement .venv-deploy/target.lock --disable-pip --progress-spinner off \
	    $(if $(AUDIT_URL),--vulnerability-service osv --osv-url $(AUDIT_URL)) >.venv-deploy/audit || \
	    { cat .venv-deploy/audit; exit 1; }
	@cat .venv-deploy/audit
	@missed=$$(awk '/^Name +Skip Reason/ {getline; skipped = 1; next} skipped {print $$1}' .venv-deploy/audit | \
	    grep -vxF $(addprefix -e ,$(or $(AUDIT_OWN),-)) | xargs); [ -z "$$missed" ] || { echo "audit: nobody could be asked" \
	    "about $$missed: nothing is known of their faults. AUDIT_OWN='NAME …' names packages of your own" >&2; exit 1; }

.venv-deploy/done: deploy/requirements-check.txt $(call IF_GONE,.venv-deploy,again) $(call IF_MOVED,.venv-deploy,again) | $(PYTHON)
	@$(PYTHON) deploy/moved.py $(@D)
	$(PYTHON) -m venv $(call IF_GONE,.venv-deploy,--clear) .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet -r deploy/requirements-check.txt
	$(STAMP)

rules:  ## writes the alerts for Kubernetes anew, from those of Prometheus
	sh deploy/rules.sh > deploy/kubernetes/monitoring/prometheusrule.yaml

wheels: setup  ## fills deploy/wheels, from which the image is then built without a network
	@for architecture in $(WHEELS_ARCHITECTURES); do \
	    echo "wheels for Python $(WHEELS_PYTHON), $$architecture"; \
	    $(PYTHON) deploy/target.py $(WHEELS_PYTHON) $$architecture <requirements.lock >.venv/target.lock || exit; \
	    $(PYTHON) -m pip download --require-hashes --only-binary=:all: --no-deps -r .venv/target.lock -d deploy/wheels \
	        --python-version $(WHEELS_PYTHON) $(MANYLINUX:%=--platform %_$$architecture) || { echo '$(NO_WHEEL)' >&2; exit 1; }; \
	done

lock: $(PYTHON)  ## writes the locks anew after a change of requirements*.txt; ARGS=--upgrade for newer versions below
	$(PYTHON) -m pip install --quiet $(UV)
	@$(LOCK_COMMAND) --only-binary :all: requirements.txt -o requirements.lock $(ARGS) || \
	    { echo 'requirements.lock was not made. $(UNKNOWN_CA) If a package has no wheels: docs/run-and-watch.md, As a container. If one needs a' \
	        'newer Python than $(LOCK_PYTHON), and all of yours are newer, the one of the image, too: make lock LOCK_PYTHON=3.13' >&2; \
	        exit 1; }
	@unhashed=$$(grep -v -e '^[# ]' -e '^--' requirements.lock | sed -n 's,//[^/@]*@,//,; s/[^\]$$/&/p'); [ -z "$$unhashed" ] || \
	    { echo "$$unhashed: of a git repository or a directory pip can check no hash, so it installs none. Put its wheel into an" \
	        'index, or its modules into a directory beside worker.py (docs/run-and-watch.md, Start it)' >&2; exit 1; }
	@echo 'requirements.lock: written'
	@$(LOCK_COMMAND) requirements-dev.txt -c requirements.lock -o requirements-dev.lock $(ARGS) || \
	    { echo 'requirements-dev.lock was not made. $(UNKNOWN_CA) If a version in requirements-dev.txt, which tests and checks need, does not' \
	        'fit to one in requirements.txt, change it there' >&2; exit 1; }
	@echo 'requirements-dev.lock: written'

# The second install installs nothing: it fails where a requirement is not met by the lock.
.venv/locked: $(REQUIREMENTS) $(LOCKS) $(call IF_GONE,.venv,again) $(call IF_MOVED,.venv,again) | $(PYTHON)
	@$(PYTHON) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "the .venv that is here, of $$($(PYTHON) --version 2>&1), is too old (3.11 is needed), or has no pip:" \
	        "remove it (rm -r .venv), then run \`make setup\`" >&2; exit 1; }
	@$(PYTHON) deploy/moved.py $(@D)
	@echo 'installing the packages of requirements-dev.lock: the first time, this may take minutes'
	$(PYTHON) -m pip install --quiet --require-hashes -r requirements-dev.lock
	@PIP_FIND_LINKS= $(PYTHON) -m pip install --quiet --no-index --dry-run -r requirements-dev.txt || \
	    { echo 'requirements*.txt and the locks differ: run `make lock`' >&2; exit 1; }
	@$(PYTHON) deploy/locked.py
	@$(PYTHON) deploy/interpreter.py
	$(STAMP)

# Each candidate is run and not only looked up: a pyenv shim exists also where its version is not selected. And pyenv builds
# without optimization: where the machine has another Python of the same version that is optimized, that one is taken,
# unless somebody has named theirs (PYTHONS=…).
$(PYTHON):
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        better=$(if $(filter file,$(origin PYTHONS)),$$($$python deploy/interpreter.py better)); \
	        echo "making .venv with $$("$${better:-$$python}" --version)$${better:+, $$better, which is optimized}"; \
	        exec "$${better:-$$python}" -m venv $(call IF_GONE,.venv,--clear) .venv; \
	    fi; \
	done; \
	echo "Python 3.11 or newer with its venv module is needed: SQLAlchemy 2.1 and the wheels of the Kafka client need it." >&2; \
	echo "python3 here: $$(python3 --version 2>&1). On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; \
	exit 1
