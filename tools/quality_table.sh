#!/usr/bin/env bash
# Do the architectures of the ScMoE paper learn alike? Trains a small model for real as top-1, top-2, shared expert, ScMoE
# at Pos-1, 2 and 3 and DGMoE, every variant with the same seeds, and prints the validation loss on held-out text: mean and
# deviation over the seeds. All but one of the top-1 models do the same amount of FFN work for a token.
#
#   tools/quality_table.sh [OUTPUT_FOLDER]       default: out/quality; runs that are there already are not done again
#   SEEDS="1 2 3 4 5" tools/quality_table.sh     other seeds
#   STEPS=1000 tools/quality_table.sh out/long   longer runs, into a folder of their own
#   JOBS=4 tools/quality_table.sh                runs at the same time, one core each (default: all cores)
#
# Needs the build of tools/quickstart.sh. The numbers do not depend on how busy or how fast the machine is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/quality_table.sh
    exit 0
    ;;
  -*)
    echo "quality_table.sh: unknown option \"$1\"; see tools/quality_table.sh --help" >&2
    exit 2
    ;;
esac
out="${1:-out/quality}"
seeds="${SEEDS:-1 2 3}"
export MOECAST="${MOECAST:-build/tools/moecast}"
variants="top1 top1_wide top2 shared_expert scmoe_pos1 scmoe_pos2 scmoe_pos3 dgmoe"

# train CONFIG SEED FOLDER [STEPS]
train() {
  [[ -f "$3/metrics.json" ]] && return
  "$MOECAST" train "experiments/quality/$1.json" -o "$3" --quiet --seed "$2" ${4:+--steps "$4"}
}
export -f train

for seed in $seeds; do
  for variant in $variants; do
    echo "$variant $seed $out/$variant/$seed${STEPS:+ $STEPS}"  # no blank at the end: it would join lines
  done
done | xargs -P "${JOBS:-$(nproc)}" -L 1 bash -c 'train "$@"' train

printf '| variant | validation loss | deviation over seeds | choices dropped in %% |\n|---|---|---|---|\n'
for variant in $variants; do
  for seed in $seeds; do
    # Top-level "name" and "validation_loss", and "dropped" of each layer: the file is indented by two.
    sed -n -e 's/^  "name": "\(.*\)",$/name \1/p' -e 's/^  "validation_loss": \(.*\),$/loss \1/p' \
      -e 's/^      "dropped": \([^,]*\),*$/dropped \1/p' "$out/$variant/$seed/metrics.json"
  done | awk '
    $1 == "name" { sub(/^name /, ""); name = $0 }
    $1 == "loss" { n++; sum += $2; squares += $2 * $2 }
    $1 == "dropped" { layers++; dropped += $2 }
    END {
      mean = sum / n
      variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0
      printf "| %s | %.4f | %.4f | %.2f |\n", name, mean, sqrt(variance > 0 ? variance : 0), 100 * dropped / layers
    }'
done
