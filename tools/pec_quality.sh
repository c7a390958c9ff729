#!/usr/bin/env bash
# What do faults cost in quality if only K of 8 experts are saved each time? Trains the quickstart model for real with a
# node lost once in the middle, and four times, with full checkpoints and with PEC at K = 1, 2, 4, sequential and
# load-aware, recovering from storage alone (one level) or from host memory too (two levels, K_snapshot = 4), and prints
# the validation loss (mean and deviation over the seeds) and the proportion of lost tokens (PLT).
#
#   tools/pec_quality.sh [OUTPUT_FOLDER]       default: out/pec; runs that are there already are not done again
#   SEEDS="1 2 3" tools/pec_quality.sh          other seeds
#
# Needs the build of tools/quickstart.sh. The numbers do not depend on how busy or how fast the machine is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/pec_quality.sh
    exit 0
    ;;
  -*)
    echo "pec_quality.sh: unknown option \"$1\"; see tools/pec_quality.sh --help" >&2
    exit 2
    ;;
esac
out="${1:-out/pec}"
seeds="${SEEDS:-1 2 3}"
moecast="${MOECAST:-build/tools/moecast}"
configs=experiments/pec/quality

once='/faults=[{"kind": "lose_node", "ranks": [1], "step": 170}]'
often='/faults=['
for step in 58 122 186 250; do often+="{\"kind\": \"lose_node\", \"ranks\": [$((step / 64 % 2))], \"step\": $step},"; done
often="${often%,}]"

# run NAME CONFIG [OPTION...]: all seeds, then one line of the table.
run() {
  local name="$1" config="$2" seed folder
  shift 2
  for seed in $seeds; do
    folder="$out/${name//[ ,=]/_}/$seed"
    [[ -f "$folder/metrics.json" ]] && continue
    rm -rf "$folder.checkpoints"
    $moecast train "$configs/$config.json" -o "$folder" --quiet --seed "$seed" --set "/name=$name" "$@"
    rm -rf "$folder.checkpoints"
  done
  for seed in $seeds; do
    # Top-level "validation_loss", and "plt" of "checkpoints": the file is indented by two.
    sed -n -e 's/^  "validation_loss": \(.*\),$/loss \1/p' -e 's/^    "plt": \(.*\),$/plt \1/p' \
      "$out/${name//[ ,=]/_}/$seed/metrics.json"
  done | awk -v name="$name" '
    $1 == "loss" { n++; sum += $2; squares += $2 * $2 }
    $1 == "plt" { plt += $2 }
    END {
      mean = sum / n
      variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0
      printf "| %s | %.4f | %.4f | %.2f |\n", name, mean, sqrt(variance > 0 ? variance : 0), 100 * plt / n
    }'
}

printf '| run | validation loss | deviation over seeds | PLT in %% |\n|---|---|---|---|\n'
run "no fault" base
run "1 fault, full" full --set "$once"
for faults in once often; do
  label="1 fault"
  [[ $faults == often ]] && label="4 faults"
  for selection in sequential load_aware; do
    for k in 1 2 4; do
      run "$label, K=$k $selection" pec --set "${!faults}" \
        --set "/checkpoint/policy/experts=$k" --set "/checkpoint/policy/selection=$selection"
      run "$label, K=$k $selection, two levels" pec_two_level --set "${!faults}" \
        --set "/checkpoint/policy/persist_experts=$k" --set "/checkpoint/policy/selection=$selection"
    done
  done
done
