#!/usr/bin/env bash
# On a machine with a GPU and JAX, without TensorFlow and without internet: flickering Pong by a recurrent PQN, or speeds.
#
#   benchmarks/gpu.sh LIMIT_SECONDS OUT [flags of train.py]        learn
#   benchmarks/gpu.sh LIMIT_SECONDS OUT speeds                     agent steps/s, CleanRL's loops beside ours where PyTorch is
#
# A trial says how many agent steps fit into the limit. The run then has so many, and its learning rate falls over
# them. Its score over 30 fresh games and its curve follow. OUT gets what is small: curve, score, and run.tar.gz, which is the run
# without its checkpoints.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "benchmarks/gpu.sh: expected LIMIT_SECONDS and OUT, such as: benchmarks/gpu.sh 540 out" >&2
  exit 2
fi
limit=$1 out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/.."
# Several processes share the device; a function that one compiled, the next one takes from the cache.
export KERAS_BACKEND=jax PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
export JAX_COMPILATION_CACHE_DIR=$PWD/runs/gpu-cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5
mkdir -p "$out"
say() { echo "[${SECONDS} s] $*"; }

if [ "${1:-}" = speeds ]; then
  shift
  peers=--ours_only
  if python3 -c "import torch" 2> /dev/null; then  # The peers' Python is this one.
    mkdir -p .venv-peers/bin
    [ -e .venv-peers/bin/python ] || { printf '#!/bin/sh\nexec python3 "$@"\n' > .venv-peers/bin/python; chmod +x .venv-peers/bin/python; }
    peers=--cleanrl_only
  fi
  for preset in pqn_lstm pqn; do
    say "Speeds of $preset."
    timeout $((limit - SECONDS)) python3 -m benchmarks.rollouts --presets=$preset --num_envs=128,8 --precisions=float32 $peers \
      --seconds=2 --turns=2 --out="$out/rollouts_$preset" "$@" || say "The table was not finished."
  done
  say "Speeds of 2015."
  timeout $((limit - SECONDS)) python3 -m benchmarks.speed --only=num_envs --num_envs=8,32,64,128 --slices=20 --turns=3 --out="$out/speed" \
    || say "The table was not finished."
  ls -la "$out"
  exit
fi

period=$(sed -n 's/^--update_period=//p' presets/laptop.flags)
flags=(--flagfile=presets/laptop.flags --checkpoint_period=2000000 "$@")
say "Trial."
python3 train.py "${flags[@]}" --maxsteps=60000 --max_hours=0.03 --eval_period=100000000 --run_dir=runs/gpu-trial || [ $? = 75 ]
# A minute is kept for imports and evaluations, more for score and curve, and a third for what a trial does not see: ends of episodes, new seeds.
steps=$(python3 - runs/gpu-trial/learn.csv $((limit - SECONDS - 115)) $period << 'END'
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
half, last = rows[len(rows) // 2], rows[-1]
speed = (int(last["agent_step"]) - int(half["agent_step"])) / (float(last["seconds"]) - float(half["seconds"]))
phases = {name: sum(float(row[f"{name}_seconds"]) for row in rows[len(rows) // 2:]) for name in ("environment", "act", "sample", "learn")}
print(f"Trial: {speed:.0f} agent steps/s; seconds of the second half by phase: {phases}", file=sys.stderr)
print(max(20_000, int(speed * float(sys.argv[2]) * 2 / 3)))
END
)
run=runs/gpu-pong
say "Training, $steps agent steps."
python3 train.py "${flags[@]}" --maxsteps="$steps" --lr_schedule="cosine_restarts:$((steps / period + 100))u:0.00001" \
  --eval_period=$((steps / 5 + 1)) --max_hours="$(python3 -c "print(($limit - $SECONDS - 60) / 3600)")" --run_dir="$run" || [ $? = 75 ]
tar -czf "$out/run.tar.gz" -C "$run" --exclude=checkpoints --exclude=replay --exclude="events*" .

say "Score."
checkpoint=$([ -f "$run/best.weights.h5" ] && echo best || echo last)
timeout $((limit - SECONDS - 8)) python3 evaluate.py --run_dir="$run" --checkpoint="$checkpoint" --episodes=30 --csv="$out/episodes.csv" \
  || say "The score was not finished in time."
timeout $((limit - SECONDS)) python3 plot.py "$run" --y=train --out="$out/curve" || say "There is no curve."
say "Done."
ls -la "$out"
