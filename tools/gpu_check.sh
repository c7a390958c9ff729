#!/usr/bin/env bash
# Everything that needs a GPU, in one command and within 9 minutes: GPU tests, benches, the comparison with PyTorch where
# it is installed. Runs in a bundle (tools/bundle.sh) or in a clone after a build.
#   tools/gpu_check.sh [STEP...]     steps: info tests train nccl calibrate bench torch (default: all)
# Logs and JSON lines go to $OUT, or ./gpu_check_logs. Exit code 1 if a test fails, 0 otherwise: figures below what is
# wanted are printed, not failed.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=${OUT:-$PWD/gpu_check_logs}
mkdir -p "$logs"
started=$SECONDS
port=$((20000 + RANDOM % 10000))
remaining() { echo $((530 - (SECONDS - started))); }

find_program() {
  local each
  for each in "$here/bin/$1" "$here/build/tests/$1" "$here/build/runtime/cuda/$1" "$here/build/tools/$1"; do
    [[ -x $each ]] && { echo "$each"; return; }
  done
}
# CUDA libraries: the toolkit's, else those of Python packages (nvidia-cublas and others).
library_path() {
  local paths=$here/lib folder
  for folder in /usr/local/cuda/lib64 /usr/local/cuda/lib; do [[ -d $folder ]] && paths+=:$folder; done
  if command -v python3 >/dev/null; then
    paths+=:$(python3 - <<'PY'
import glob, site, sys
roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
print(":".join(sorted({p for r in roots if r for p in glob.glob(r + "/nvidia/*/lib")})))
PY
    )
  fi
  echo "$paths${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}
export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(library_path)

steps=("$@")
[[ ${#steps[@]} -eq 0 ]] && steps=(info tests train nccl calibrate bench torch)
failed=0
for step in "${steps[@]}"; do
  printf '\n=== %s (%s s left)\n' "$step" "$(remaining)"
  case $step in
    info)
      nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>&1
      ldd "$here"/lib/moecast/moecast_gpu.so "$here"/build/lib/moecast/moecast_gpu.so 2>/dev/null | grep -E 'not found|cublas'
      ;;
    tests)
      program=$(find_program runtime_gpu_tests)
      [[ -z $program ]] && { echo "runtime_gpu_tests is not built"; failed=1; continue; }
      timeout "$(remaining)" "$program" --gtest_brief=0 >"$logs/gpu_tests.log" 2>&1
      code=$?
      [[ $code -ne 0 ]] && failed=1
      grep -E '^\[  FAILED  \]|^\[  PASSED  \]|^\[  SKIPPED \] [0-9]' "$logs/gpu_tests.log" | sort -u | head -60
      grep -E 'Failure' -A 4 "$logs/gpu_tests.log" | head -60
      echo "tests: exit code $code, log $logs/gpu_tests.log"
      ;;
    train)
      program=$(find_program moecast)
      [[ -z $program ]] && { echo "moecast is not built"; failed=1; continue; }
      # Two ranks on one GPU, collectives through host memory: top-2 exposes all of them, ScMoE hides what it can.
      runs=()
      for variant in top2 shared_expert scmoe; do
        if timeout "$(remaining)" "$program" train "$here/experiments/gpu/train/$variant.json" -o "$logs/train/$variant" --force; then
          runs+=("$logs/train/$variant")
        else
          failed=1
        fi
      done
      [[ ${#runs[@]} -gt 0 ]] && "$program" compare "${runs[@]}"
      ;;
    nccl)
      # One process for each rank, collectives through NCCL. On a single GPU both share it, which NCCL allows if each
      # says that it is a machine of its own.
      program=$(find_program moecast)
      [[ -z $program ]] && { echo "moecast is not built"; failed=1; continue; }
      shared=$([[ $(nvidia-smi -L 2>/dev/null | wc -l) -gt 1 ]] || echo yes)
      processes=()
      for rank in 0 1; do
        RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
          env ${shared:+NCCL_HOSTID=rank$rank} timeout "$(remaining)" "$program" train "$here/experiments/gpu/train/top2.json" \
          --set /runtime/communicator=nccl -o "$logs/train/nccl" --force &
        processes+=($!)
      done
      for process in "${processes[@]}"; do wait "$process" || failed=1; done
      [[ -d $logs/train/nccl && -d $logs/train/top2 ]] && "$program" compare "$logs/train/top2" "$logs/train/nccl"
      ;;
    calibrate)
      program=$(find_program moecast)
      [[ -z $program ]] && { echo "moecast is not built"; failed=1; continue; }
      profile=$logs/profile.json
      if timeout "$(remaining)" "$program" calibrate --backend cuda --for "$here/experiments/gpu/train/top2.json" --budget "60 s" \
        --name this_gpu -o "$profile" --force; then
        pairs=()
        for variant in top2 shared_expert scmoe; do
          [[ -d $logs/train/$variant ]] || continue
          "$program" simulate "$here/experiments/gpu/simulate/$variant.json" --profile "$profile" -o "$logs/simulate/$variant" --force &&
            pairs+=("$logs/train/$variant" "$logs/simulate/$variant")
        done
        [[ ${#pairs[@]} -gt 0 ]] && "$program" validate "${pairs[@]}" --tolerance "10 %" -o "$logs/validation.json" --force
      else
        failed=1
      fi
      ;;
    bench)
      program=$(find_program moecast_gpu_bench)
      [[ -z $program ]] && { echo "moecast_gpu_bench is not built"; failed=1; continue; }
      timeout "$(remaining)" "$program" --json "$logs/gpu_bench.jsonl" 2>&1 | tee "$logs/gpu_bench.txt"
      ;;
    torch)
      script=$here/tools/torch_compare.py
      [[ -f $script ]] || script=$here/runtime/cuda/bench/torch_compare.py
      if ! python3 -c 'import torch' 2>/dev/null; then echo "PyTorch is not installed: skipped"; continue; fi
      bench=()
      [[ -s $logs/gpu_bench.jsonl ]] && bench=(--bench "$logs/gpu_bench.jsonl")
      # Python finds its own libraries; ours must not shadow them.
      LD_LIBRARY_PATH='' timeout "$(remaining)" python3 "$script" "${bench[@]}" --json "$logs/torch_compare.jsonl" 2>&1 |
        tee "$logs/torch_compare.txt"
      ;;
    *) echo "unknown step $step"; exit 2 ;;
  esac
done
echo
echo "gpu_check: $((SECONDS - started)) s, $([[ $failed -eq 0 ]] && echo 'tests passed' || echo 'TESTS FAILED'); logs in $logs"
exit $failed
