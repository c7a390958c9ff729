#!/usr/bin/env bash
# How much of the all-to-all does each schedule hide, on slow, middling and fast links? Trains every pair for real and
# prints one table for each link: the share exposed beside the least that the plan allows with the same operator times.
#
#   tools/overlap_study.sh [OUTPUT_FOLDER]       default: out/overlap; what an earlier study left there is replaced
#
# Needs the build of tools/quickstart.sh and an idle machine: every other process moves the numbers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/overlap_study.sh
    exit 0
    ;;
  -*)
    echo "overlap_study.sh: unknown option \"$1\"; see tools/overlap_study.sh --help" >&2
    exit 2
    ;;
esac
out="${1:-out/overlap}"
moecast=build/tools/moecast
configs=experiments/quickstart/train

# About 60, 43 and 15 % of the time of a sequential top-2 MoE on two cores.
links=("200 us|80 MB/s" "200 us|160 MB/s" "50 us|700 MB/s")
schedule=/workload/schedule
study=(
  "top2 sequential"
  "top2 pipelined --set $schedule/kind=pipelined --set $schedule/chunks=2"
  "scmoe shortcut"
  "scmoe shortcut_chunks --set $schedule/chunks=2"
)

for link in "${links[@]}"; do
  latency="${link%|*}" bandwidth="${link#*|}"
  runs=()
  for entry in "${study[@]}"; do
    read -r variant name settings <<<"$entry"
    run="$out/${bandwidth// /}/$variant-$name"
    # The settings are words.
    # shellcheck disable=SC2086
    $moecast train "$configs/$variant.json" -o "$run" --force --quiet --set "/name=$variant $name" $settings \
      --set "/runtime/link/latency=$latency" --set "/runtime/link/bandwidth=$bandwidth"
    runs+=("$run")
  done
  printf '\nlink of %s and %s\n' "$latency" "$bandwidth"
  $moecast compare "${runs[@]}"
done
