#!/usr/bin/env bash
# slurm/results.sh GRID.csv: evaluates the runs of a grid and draws their curves, runs/<grid>/curves.png. grid.sh submits it, to begin when
# the last row has ended, however that ended; so does grid_local.sh, and so can you, at any time.
#
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" || exit 2    # grid.sh submits from the repository.
source .venv/bin/activate || exit 2
folder=runs/$(basename "$1" .csv)
for config in "$folder"/*/config.json; do
  python evaluate.py --run_dir="$(dirname "$config")"     # A run without weights is refused in a sentence; the next one may have some.
done
python status.py "$1"
python plot.py "$folder" --out="$folder/curves"
