#!/usr/bin/env bash
# On a machine with a GPU and JAX, without TensorFlow and without internet: speeds, then flickering Pong by a recurrent PQN.
#
#   benchmarks/gpu.sh LIMIT_SECONDS OUT [flags of train.py]
#
# A fifth of the limit, at most a minute and a half, goes to the table of speeds. Training takes the rest but for what its score and
# its curve need. OUT gets what is small: CSV files, the weights of the best evaluation, the configuration, tables and pictures.
# Not run on a GPU yet; rehearsed on a CPU.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "benchmarks/gpu.sh: expected LIMIT_SECONDS and OUT, such as: benchmarks/gpu.sh 540 out" >&2
  exit 2
fi
limit=$1 out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/.."
export KERAS_BACKEND=jax PYTHONUNBUFFERED=1
mkdir -p "$out"
run=runs/gpu-pong
speeds=$((limit / 5 < 90 ? limit / 5 : 90))
score=$((limit / 6 < 80 ? limit / 6 : 80))

echo "Speeds, ${speeds} s at most."
timeout "$speeds" python3 -m benchmarks.rollouts --presets=pqn_lstm --env=Pong --flicker=0.5 --num_envs=128,32 --precisions=float32 \
  --ours_only --seconds=4 --turns=2 --out="$out/rollouts" || echo "The table of speeds was not finished in time."

left=$((limit - SECONDS - score))
echo "Training, ${left} s."
hours=$(python3 -c "print($left / 3600)")
python3 train.py --flagfile=presets/pqn_lstm.flags --env=Pong --flicker=0.5 --maxsteps=10000000 --trace_decay=0.9 --learning_rate=5e-4 \
  --batch_size=16 --update_period=256 --epsilon_end=0.02 --epsilon_decay=linear:1000000steps --eval_period=1000000 \
  --checkpoint_period=2000000 --max_hours="$hours" --run_dir="$run" "$@" || [ $? = 75 ]

cp "$run"/*.csv "$run/config.json" "$out"
if [ -f "$run/best.weights.h5" ]; then
  cp "$run/best.weights.h5" "$out"
fi
left=$((limit - SECONDS))
echo "Score and curve, ${left} s."
checkpoint=$([ -f "$run/best.weights.h5" ] && echo best || echo last)
timeout "$left" python3 evaluate.py --run_dir="$run" --checkpoint="$checkpoint" --episodes=30 --csv="$out/episodes.csv" \
  || echo "The score was not finished in time."
python3 plot.py "$run" --y=train --out="$out/curve" || echo "There is no curve."
rm -f "$out/curve.svg" "$out/rollouts.md" "$out"/aside-*  # Eight files fit.
ls -la "$out"
