#!/usr/bin/env bash
# What partial experts checkpointing buys: blocking full, asynchronous full and PEC, each at its best interval, on the
# testbeds of MoC-System and on 1,024 and 16,384 GPUs. One table for each cluster.
#
#   tools/pec_table.sh [OUTPUT_FOLDER]       default: out/pec; what an earlier run left there is replaced
#
# Needs the build of tools/quickstart.sh. The result does not depend on the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/pec_table.sh
    exit 0
    ;;
  -*)
    echo "pec_table.sh: unknown option \"$1\"; see tools/pec_table.sh --help" >&2
    exit 2
    ;;
esac
out="${1:-out/pec}"
moecast=build/tools/moecast
experiments=experiments/campaign

table() { # FOLDER SCENARIO...
  local folder="$1" runs=() scenario
  shift
  for scenario in "$@"; do
    $moecast simulate "$experiments/$folder/$scenario.json" -o "$out/$folder/$scenario" --force --quiet
    runs+=("$out/$folder/$scenario")
  done
  $moecast compare "${runs[@]}"
  echo
}

for case in case1 case2 case3; do table pec_testbeds "${case}_blocking" "${case}_async" "${case}_pec"; done
for gpus in pec_1024 policies_16384; do table "$gpus" blocking_full async_full pec pec_two_level; done
