#!/bin/bash
# A run over several nodes, from the root of the checkout, on a file system they share:
#
#   sbatch experiments/launch/slurm.sh runs/paper --preset=paper --workers=3
#   sbatch --ntasks-per-node=4 --gpus-per-node=4 experiments/launch/slurm.sh ...   # one process per GPU
#   sbatch --gpus-per-node=4 experiments/launch/slurm.sh ...                       # one per node
#
# It is requeued, and goes on, when it is preempted, when its time is nearly over, and when
# a process was lost; MAX_RESTARTS times at most.
#SBATCH --job-name=cifar10_gan
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# SIGTERM to the processes 180 s before the time is over: they save and end with 75
#SBATCH --signal=TERM@180
set -u
if [ $# -lt 1 ]; then
  echo "usage: sbatch slurm.sh WORKDIR [--field=value ...]" >&2
  exit 1
fi
export PYTHON=${PYTHON:-.venv/bin/python}

# JAX gives a process the GPU of its number on the node, and only that one. A process that
# has the node for itself takes all.
if [ "${SLURM_NTASKS_PER_NODE:-1}" = 1 ] && [ "${SLURM_GPUS_ON_NODE:-0}" -gt 1 ]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

trap : TERM # preemption tells this script too, which has to wait for the processes
# a process that loses another ends by itself; what then still hangs is ended after 60 s
srun --kill-on-bad-exit=0 --wait=60 experiments/launch/start_or_resume.sh "$@" &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do # a signal has ended the wait, not srun
  wait "$step"
  code=$?
done

# 75: stopped and saved, or another process was lost; above 128: a signal, for instance
# for want of memory. 1 is a mistake, which another start would repeat.
if [ "$code" -eq 75 ] || [ "$code" -gt 128 ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_RESTARTS:-20}" ]; then
    echo "ended with $code, requeued"
    trap - TERM # by which Slurm ends this script
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
  fi
fi
exit "$code"
