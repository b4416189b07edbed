# make run     DRQN on Frostbite for a few minutes            make test    the tests
# make evidence   every learning result of results/, again    make lint    ruff
PYTHON := .venv/bin/python

run: .venv/installed
	@echo "DRQN on Frostbite for a few minutes: enough to see every part work. To see it learn the game takes hours:"
	@echo "  $(PYTHON) train.py --network=DRQN --env=Frostbite --maxsteps=10000000"
	$(PYTHON) train.py --flagfile=presets/quick.flags

test: .venv/installed
	$(PYTHON) -m pytest

lint: .venv/installed
	.venv/bin/ruff check .

evidence: .venv/installed
	$(PYTHON) benchmarks/evidence.py

.venv/installed: requirements.txt
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet -r requirements.txt
	@touch $@

.PHONY: run test lint evidence
