#!/usr/bin/env bash
# slurm/results.sh GRID.csv [-j JOBS]: turns whatever runs of a grid there are into scores, curves, sweeps and tables in runs/<grid>/, JOBS (1)
# runs at a time, and marks what is missing. grid.sh submits it, to begin when the last row has ended, however that ended; grid_local.sh
# ends with it; and you can call it at any time: what is newer than the weights that it was made from is not made again.
#
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" || exit 2    # grid.sh submits from the repository.
source .venv/bin/activate || exit 2
name=$(basename "$1" .csv)
folder=runs/$name
tables=runs swept=
case $name in
  paper) tables="standard flicker" ;;
  placement) tables=placement ;;
  mini) swept=CartPole-v1 ;;        # Elsewhere flicker hides the cue itself, or comes on top of what is hidden anyway.
esac

score() {                           # A run without weights is refused in a sentence; the next one may have some.
  [ "$1/episodes-best.csv" -nt "$1/best.weights.h5" ] || python evaluate.py --run_dir="$1"
  [[ "$1/observability.csv" -nt "$1/best.weights.h5" || $1 != "$folder/$swept"* ]] || python evaluate.py --run_dir="$1" --episodes=10 --observation_probabilities=0.1,...,1.0
}
export folder swept
export -f score
for config in "$folder"/*/config.json; do dirname "$config"; done | xargs -P "${3:-1}" -I RUN bash -c 'score "RUN"'

python status.py "$1"
python plot.py "$folder" --out="$folder/curves"
python plot.py "$folder/$swept"*/ --figure=observability --out="$folder/observability"
for table in $tables; do python plot.py "$folder" --table="$table" --out="$folder/$table"; done
