#!/usr/bin/env bash
# The whole product on this machine in one go: installs what is missing, builds, then trains, measures, predicts, compares
# and writes a report. Prints every command, so that each can be repeated by hand.
#
#   tools/quickstart.sh [OUTPUT_FOLDER]       default: out/quickstart; what an earlier quickstart left there is replaced
#
# Exit code: 0 if the prediction is within its tolerance, 1 if not (the report is written all the same), else that of the
# command that failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/quickstart.sh
    exit 0
    ;;
  -*)
    echo "quickstart.sh: unknown option \"$1\"; see tools/quickstart.sh --help" >&2
    exit 2
    ;;
esac
out="${1:-out/quickstart}"
variants=(top2 top1 shared_expert scmoe)
moecast=build/tools/moecast

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
run() {
  printf '$'
  printf ' %q' "$@"
  printf '\n'
  "$@"
}

step "Build"
run tools/install_dependencies.sh
run cmake --preset default --log-level=WARNING
run cmake --build --preset default --target moecast --parallel "$(nproc)"
started=$SECONDS

step "1. What can this machine run?"
run $moecast doctor

step "2. Train four variants of a small Mixture-of-Experts model for real: two ranks, real tokens over a paced link"
for variant in "${variants[@]}"; do
  run $moecast train "experiments/quickstart/train/$variant.json" -o "$out/train/$variant" --force
done

step "3. Measure this machine: operators, and the same paced link"
run $moecast calibrate --for "experiments/quickstart/train/${variants[0]}.json" -o "$out/profile.json" --force

step "4. Predict the four variants from that profile alone"
for variant in "${variants[@]}"; do
  run $moecast simulate "experiments/quickstart/simulate/$variant.json" --profile "$out/profile.json" \
    -o "$out/simulate/$variant" --force
done

step "5. Lay measured beside predicted"
pairs=()
for variant in "${variants[@]}"; do pairs+=("$out/train/$variant" "$out/simulate/$variant"); done
code=0
run $moecast validate "${pairs[@]}" --tolerance "10 %" -o "$out/validation.json" --force || code=$?
[ "$code" -le 1 ] || exit "$code"

step "6. Report"
run $moecast report "$out/validation.json" "$out/profile.json" --title quickstart -o "$out/report.html" --force

printf '\nDone in %d s after the build. Open %s%s/report.html%s in a browser;\n' "$((SECONDS - started))" "$bold" "$out" "$plain"
printf 'each timeline.json under %s opens in https://ui.perfetto.dev.\n' "$out"
exit "$code"
