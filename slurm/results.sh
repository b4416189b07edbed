#!/usr/bin/env bash
# slurm/results.sh GRID.csv [-j JOBS]: turns whatever runs of a grid there are into scores, curves, sweeps and tables in runs/<grid>/, JOBS (1)
# runs at a time, and marks what is missing. grid.sh submits it, to begin when the last row has ended, however that ended; grid_local.sh
# ends with it; and you can call it at any time: what is newer than the weights that it was made from is not made again.
#
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=1-00:00:00    # What has been played by then stays; the same command again plays the rest.

usage="expected slurm/results.sh GRID.csv [-j JOBS]"
[ -f "${1-}" ] || { echo "$usage, got ${1-nothing}, which is no file" >&2; exit 2; }
grid=$(realpath "$1"); shift
jobs=1; if [ $# = 2 ] && [ "$1" = -j ]; then jobs=$2; elif [ $# != 0 ]; then echo "$usage, got $*" >&2; exit 2; fi
# Slurm runs a copy of this file; grid.sh submits from the repository.
[ -e "$(dirname "$0")/grid.sh" ] && cd "$(dirname "$0")/.." || cd "$SLURM_SUBMIT_DIR" || exit 2
source .venv/bin/activate || exit 2
name=$(basename "$grid" .csv)
folder=runs/$name
tables=runs swept= axes=
case $name in
  paper) tables="standard flicker" ;;
  placement) tables=placement ;;
  memory) swept=nothing ;;
  r2d2_mini) swept=nothing axes=--grid_columns=lines ;;    # Nine lines in one panel hide each other.
  kalbag) swept=nothing axes="--x=episodes --y=train" ;;
  mini) swept=CartPole-v1 axes=--grid_columns=lines ;;    # Elsewhere flicker hides the cue itself, or comes on top of what is hidden anyway.
esac

made() {                            # Whether a CSV of a run holds what we would play: at least $3 rows, and $4 values in their third column,
  [ "$1/$2" -nt "$1/best.weights.h5" ] && [ "$(wc -l < "$1/$2")" -gt "$3" ] &&    # of the weights of now. A user's look may have fewer.
    [ "$(cut -d, -f3 "$1/$2" | sort -u | wc -l)" -gt "$4" ]
}
score() {                           # A run without weights is refused in a sentence; the next one may have some.
  made "$1" episodes-best.csv 30 30 || python evaluate.py --run_dir="$1"
  [[ $1 != "$folder/$swept"* ]] || made "$1" observability.csv 110 10 ||
    python evaluate.py --run_dir="$1" --episodes=10 --observation_probabilities=0.1,...,1.0
}
export folder swept
export -f made score
python status.py "$grid" || exit 2
compgen -G "$folder/*/config.json" > /dev/null || { echo "No run of $grid has begun." >&2; exit 1; }
for config in "$folder"/*/config.json; do dirname "$config"; done | xargs -P "$jobs" -d '\n' -n 1 bash -c 'score "$1"' score

python plot.py "$folder" $axes --out="$folder/curves"
[ "$swept" = nothing ] || python plot.py "$folder/$swept"*/ --figure=observability --out="$folder/observability"
for table in $tables; do python plot.py "$folder" --table="$table" --out="$folder/$table"; done
