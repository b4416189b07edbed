# make run        a first look: the film of an agent that plays Pong half blind; then memory against none on flickering CartPole
# make test       the tests                       make lint    ruff, and mypy on the types of public signatures
# make doctor     what this machine has, and what to do about the rest
# make evidence   the learning results of results/, again, by the commands a user would type; and 300 kills of runs that then go on
# make mini       the paper in miniature: 105 short runs on small environments, their tables, curves, sweeps and probes in results/mini/
# make kalbag     Kalbag et al.'s four curves on Assault: a torso of our own, then 12 runs of 40 games
# make bench      speed beside the peers', in a virtual environment of their own; the paper's table of costs. Alone on the machine
PYTHON := .venv/bin/python
MEMORY := runs/memory/CartPole-v1-DRQN-flicker=0.5-s1
WITHOUT := runs/memory/CartPole-v1-DQN-flicker=0.5-history=1-s1
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

run: .venv/installed
	@echo "An agent of this suite plays Pong. It sees one frame at a time, and half of its frames are blank. The film takes half a minute."
	@mkdir -p runs
	$(PYTHON) evaluate.py agents/flickering_pong --video=runs/pong.mp4 --video_steps=450
	@echo "CartPole, half of whose frames are blank: DRQN remembers, DQN sees the same frames and does not. Both learn side by side, for minutes."
	$(ONE_THREAD) slurm/grid_local.sh slurm/grids/memory.csv -j 2
	$(PYTHON) evaluate.py --compare $(MEMORY) $(WITHOUT) --video=runs/memory.mp4 --film_episode=median --episodes=10
	@echo "Films:  runs/pong.mp4  runs/memory.mp4 (with memory beside without)"
	@echo "Curves: runs/memory/curves.png"

test: .venv/installed
	$(PYTHON) -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/mypy

doctor:  # on a machine where .venv cannot be made, too
	$(or $(wildcard $(PYTHON)),python3) doctor.py

evidence: .venv/installed
	$(PYTHON) -m benchmarks.evidence
	$(PYTHON) -m benchmarks.kills --kills=300

mini: .venv/installed
	$(ONE_THREAD) slurm/grid_local.sh slurm/grids/mini.csv -j $$(nproc)
	$(PYTHON) -m benchmarks.probe --run_dir runs/mini/CartPole-v1-DRQN-mini-flicker=0.5-s? --out=runs/mini/probe_flicker
	$(PYTHON) -m benchmarks.probe --run_dir runs/mini/CartPolePosition-v0-DRQN-mini-s? --out=runs/mini/probe_position
	mkdir -p results/mini
	cp runs/mini/*.csv runs/mini/*.md runs/mini/*.png runs/mini/*.svg runs/mini/*.tex results/mini

kalbag: .venv/installed
	$(PYTHON) train.py --flagfile=presets/pong.flags --network=DQN --env=Assault --maxsteps=100000 --bufflen=100000 --learning_starts=5000 \
	  --epsilon_decay=linear:50000steps --run_dir=runs/assault_torso
	slurm/grid_local.sh slurm/grids/kalbag.csv -j $$(nproc)

bench: .venv/installed .venv-peers/installed
	$(PYTHON) -m benchmarks.speed
	$(PYTHON) -m benchmarks.passes

.venv-peers/installed: benchmarks/requirements.txt
	python3 -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@

.venv/installed: requirements.txt
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet -r requirements.txt
	@touch $@

.PHONY: run test lint doctor evidence mini kalbag bench
