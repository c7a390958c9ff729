#!/usr/bin/env bash
# One folder (and archive) with everything that a GPU machine without a package manager needs: programs, tests, benches, the
# GPU module and the shared libraries that are not part of every system. Left out: driver, CUDA libraries, NCCL.
#   tools/bundle.sh [BUILD_FOLDER] [OUTPUT_FOLDER]      defaults: build, BUILD_FOLDER/gpu_bundle
# On the other machine: OUTPUT_FOLDER/tools/gpu_check.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${1:-$root/build}
out=${2:-$build/gpu_bundle}

rm -rf "$out"
mkdir -p "$out/bin" "$out/lib/moecast" "$out/tools"
for program in tools/moecast runtime/cuda/moecast_gpu_bench tests/runtime_gpu_tests; do
  if [[ -x $build/$program ]]; then cp "$build/$program" "$out/bin/"; else echo "bundle: $program is not built"; fi
done
cp "$build/lib/moecast/moecast_gpu.so" "$out/lib/moecast/"
cp "$root/tools/gpu_check.sh" "$root/runtime/cuda/bench/torch_compare.py" "$out/tools/"
[[ -d $root/experiments ]] && cp -r "$root/experiments" "$out/"
[[ -d $root/models/zoo ]] && mkdir -p "$out/models" && cp -r "$root/models/zoo" "$out/models/"

# Shared libraries beyond the C and C++ runtime, CUDA and the driver.
for file in "$out"/bin/* "$out/lib/moecast/moecast_gpu.so"; do
  ldd "$file" | awk '$3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+|ld-linux|libcu|libnccl|libnv)' |
  while read -r library; do cp -L "$library" "$out/lib/"; done
strip --strip-debug "$out"/bin/* "$out/lib/moecast/moecast_gpu.so"
git -C "$root" rev-parse HEAD >"$out/revision.txt" 2>/dev/null || true
tar -C "$(dirname "$out")" -czf "$out.tar.gz" "$(basename "$out")"
du -sh "$out" "$out.tar.gz"
