#!/bin/sh
# One process of a run: starts the run, or goes on with it where the folder holds one.
#
#   start_or_resume.sh WORKDIR [--field=value ...]
#
# The processes are counted by what has launched them (PROCESSES=auto). Exit code 75: not
# at its end yet, start all again. A resumed run has its fields: a preset is left out, and
# a field given that differs from the run's is refused, as --resume does.
set -eu
if [ $# -lt 1 ] || [ "${1#--}" != "$1" ]; then
  echo "the first argument must be the folder of the run, got ${1:-nothing}" >&2
  exit 1
fi
workdir=$1
shift
if [ -f "$workdir/config.json" ]; then
  for field; do
    shift
    case $field in
      --preset=*) ;;
      *) set -- "$@" "$field" ;;
    esac
  done
  set -- --resume "$@"
fi
exec "${PYTHON:-python3}" -m experiments.cifar10_gan --workdir="$workdir" \
  --processes="${PROCESSES:-auto}" --stop_code=75 "$@"
