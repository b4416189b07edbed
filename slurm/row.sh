#!/usr/bin/env bash
# slurm/row.sh COMMAND... --run_dir=DIR: runs a row of a grid. What it says goes to DIR.log, of which the last line is its exit code.
trap : USR1 TERM                # These stop train.py, which saves; this shell stays to hear how it ends.
log=${!##--run_dir=}.log        # ${!#}: the last argument
mkdir -p "$(dirname "$log")"
echo "${log%.log} begins on $HOSTNAME; its log is $log"
"$@" >> "$log" 2>&1
code=$?
echo "exit code $code" >> "$log"
echo "${log%.log} ends with exit code $code"
exit $code
