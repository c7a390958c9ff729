#!/usr/bin/env bash
# How fast do checkpoints reach the disk, beside what dd reaches there with direct, synced writes of the same size?
# Trains a model of 0.8 GB of state that writes five checkpoints, with runs of dd before and after.
#
#   tools/persist_speed.sh [OUTPUT_FOLDER]       default: out/persist; what an earlier run left there is replaced
#
# Needs the build of tools/quickstart.sh, an idle machine and 5 GB of space.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/persist_speed.sh
    exit 0
    ;;
  -*)
    echo "persist_speed.sh: unknown option \"$1\"; see tools/persist_speed.sh --help" >&2
    exit 2
    ;;
esac
out="${1:-out/persist}"
moecast="${MOECAST:-build/tools/moecast}"
mkdir -p "$out"
rm -rf "$out/run" "$out/run.checkpoints"

# MB/s, one line each.
disk() {
  local begin end
  for _ in 1 2 3 4 5; do
    begin="$(date +%s%N)"
    dd if=/dev/zero of="$out/dd.bin" bs=8M count=97 oflag=direct conv=fsync status=none
    end="$(date +%s%N)"
    rm -f "$out/dd.bin"
    echo $((97 * 8388608 * 1000 / (end - begin)))
  done
}
median() { sort -n | awk '{ value[NR] = $1 } END { print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'; }

disk >"$out/dd.txt"
$moecast train experiments/pec/stall/large.json -o "$out/run" --quiet
disk >>"$out/dd.txt"
# "written_bytes" and "persist_ns" of every checkpoint: one key a line.
sed -n -e 's/^ *"written_bytes": \([0-9]*\),*$/bytes \1/p' -e 's/^ *"persist_ns": \([0-9]*\),*$/time \1/p' \
  "$out/run/metrics.json" | awk '$1 == "bytes" { bytes = $2 } $1 == "time" { print bytes * 1000 / $2 }' >"$out/persist.txt"
rm -rf "$out/run.checkpoints"

dd="$(median <"$out/dd.txt")" persist="$(median <"$out/persist.txt")"
awk -v dd="$dd" -v persist="$persist" 'BEGIN {
  printf "persist, beside training  %5.0f MB/s (median of 5)\n", persist
  printf "dd, direct and synced     %5.0f MB/s (median of 10)\n", dd
  printf "ratio                     %5.0f %%\n", 100 * persist / dd
}'
