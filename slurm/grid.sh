#!/usr/bin/env bash
# slurm/grid.sh GRID.csv [-j JOBS] [options of sbatch]: a job array with a task for each row of a grid, at most JOBS (4) at a time, and
# after the last of them a job that evaluates and draws everything. Before that, train.py's checks of every row, and what the rows cost.
#
#   slurm/grid.sh slurm/grids/games.csv -j 8 --partition=gpu
#
# The same command again, once the array has ended, goes on with the rows that were interrupted; those that are done end at once.
set -euo pipefail
usage="expected slurm/grid.sh GRID.csv [-j JOBS] [options of sbatch]"
[ -f "${1-}" ] || { echo "$usage, got ${1-nothing}, which is no file" >&2; exit 2; }
given=$1 grid=$(realpath "$1"); shift
jobs=4; if [ "${1-}" = -j ]; then jobs=$2; shift 2; fi
command -v sbatch > /dev/null || {
  echo "There is no sbatch, so no Slurm, on this machine; here slurm/grid_local.sh $given -j $jobs does the same" >&2; exit 2; }
cd "$(dirname "$0")/.."
source .venv/bin/activate
python status.py "$grid" --cost
name=$(basename "$grid" .csv)
rows=$(python status.py "$grid" --commands | wc -l)
array=$(sbatch --parsable --job-name="$name" --array="1-$rows%$jobs" "$@" slurm/drqn.sh "$grid")
results=$(sbatch --parsable --job-name="$name-results" --dependency="afterany:${array%;*}" "$@" slurm/results.sh "$grid" -j 4)
echo "Jobs ${array%;*} ($rows rows, $jobs at a time) and ${results%;*} (scores and curves, after them) are queued: squeue --me"
echo "How far they are: python status.py $grid"
