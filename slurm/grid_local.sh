#!/usr/bin/env bash
# slurm/grid_local.sh GRID.csv [-j JOBS]: the rows of a grid on this machine, JOBS (1) at a time; then scores, curves and tables.
set -euo pipefail
usage="expected slurm/grid_local.sh GRID.csv [-j JOBS]"
[ -f "${1-}" ] || { echo "$usage, got ${1-nothing}, which is no file" >&2; exit 2; }
grid=$(realpath "$1"); shift
jobs=1; if [ $# = 2 ] && [ "$1" = -j ]; then jobs=$2; elif [ $# != 0 ]; then echo "$usage, got $*" >&2; exit 2; fi
cd "$(dirname "$0")/.."
source .venv/bin/activate
python status.py "$grid" --check
# Ctrl-C stops every train.py, which saves. xargs does not hear it, waits for them, and begins no further row once it is told 255.
row='slurm/row.sh "$@"; [ $? -ne 130 ] || exit 255'
(trap '' INT; python status.py "$grid" --commands | xargs -P "$jobs" -L 1 bash -c "$row" row)
slurm/results.sh "$grid" -j "$jobs"
