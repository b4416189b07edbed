#!/usr/bin/env bash
# slurm/grid_local.sh GRID.csv [-j JOBS]: the rows of a grid on this machine, JOBS (1) at a time; then scores and curves.
set -euo pipefail
grid=$(realpath "${1:?expected GRID.csv [-j JOBS]}"); shift
jobs=1; if [ "${1-}" = -j ]; then jobs=$2; fi
cd "$(dirname "$0")/.."
source .venv/bin/activate
python status.py "$grid" --commands | xargs -P "$jobs" -L 1 slurm/row.sh || true    # A row that failed does not hold up the others.
slurm/results.sh "$grid"
