#!/usr/bin/env bash
# Train a DRQN on one GPU of a Slurm cluster; dqn.sh is this file by another name, and trains a DQN.
#
#   sbatch slurm/drqn.sh                                       Frostbite, 10 million agent steps
#   sbatch slurm/drqn.sh --env=Pong --flicker=0.5              flags of train.py after the script's name; the last of two wins
#   sbatch --time=2-0 --partition=long slurm/drqn.sh           options of sbatch before it
#
# The lines below that begin with #SBATCH are options of sbatch. To change one for a job, say it on sbatch's command line, which wins over
# them; to change one for good, edit it here, or set its variable in your shell's profile (export SBATCH_PARTITION=long).
#
#SBATCH --gres=gpu:1                # one GPU of any kind; --gres=none: train on the CPU
#SBATCH --cpus-per-task=8           # emulators and learning share them
#SBATCH --mem=32G                   # of which the replay takes 3 GB at the default --bufflen=400000
#SBATCH --time=1-00:00:00           # days-hours:minutes:seconds. A run that needs longer is stopped, saved, and queued again
#SBATCH --signal=B:USR1@300         # 300 seconds before that, this script is told (B: it alone)
#SBATCH --requeue                   # also after a node failed, or a job of higher priority took it
#SBATCH --open-mode=append          # One log, slurm-<job>.out in the directory of sbatch, for all the times that the job runs.

# Slurm runs a copy of this file, so where it was, and its name, are asked for: a path that may have spaces, then the arguments.
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p' | head -n 1)
until [ -f "$script" ] || [ "$script" = "${script% *}" ]; do script=${script% *}; done
cd "$(dirname "$script")/.." || exit 2
source .venv/bin/activate || exit 2

job=$SLURM_JOB_ID
if [ -z "${SLURM_ARRAY_TASK_ID-}" ]; then
  network=$(basename "$script" .sh)
  command=(python train.py --network="${network^^}" --env=Frostbite --maxsteps=10000000 "$@")
else                                # a job array of grid.sh: of the grid "$1", the row that has the task's number
  job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID    # The last task's SLURM_JOB_ID is that of the whole array.
  row=$(python status.py "$1" --commands | sed -n "${SLURM_ARRAY_TASK_ID}p")
  [ -n "$row" ] || exit 2           # The grid is not what it was.
  eval "command=(slurm/row.sh $row)"
fi

set -m                              # The command gets a process group, to which signals can be sent as a whole.
"${command[@]}" &
trap 'kill -USR1 -- -$!' USR1       # train.py finishes its step, saves, and exits with 128 + 10.
trap : TERM                         # scancel sends it to train.py as well, which saves; this script waits for that.
until wait $!; code=$?; ! kill -0 $! 2> /dev/null; do :; done    # A signal to this script ends a wait.

case $code in
  75 | 138)                         # unfinished: --max_hours, or the signal
    echo "Saved; job $job asks to be queued again."
    scontrol requeue "$job" ;;
esac
exit $code                          # 0: finished, and not queued again; others: docs/runs.md
