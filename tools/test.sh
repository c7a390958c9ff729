#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. Ends with the closing lines of ctest.
#
#   tools/test.sh                                        the optimised build, in build/
#   tools/test.sh --sanitize address|undefined|thread    the CPU build under a sanitizer, in build-<name>/
#   tools/test.sh -- ARGUMENTS                           ARGUMENTS go to ctest, say -L unit or -R Gate
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=default
while [ $# -gt 0 ]; do
  case "$1" in
    --sanitize)
      preset="${2:-}"
      shift "$(($# < 2 ? $# : 2))"
      ;;
    --sanitize=*)
      preset="${1#--sanitize=}"
      shift
      ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tools/test.sh
      exit 0
      ;;
    --)
      shift
      break
      ;;
    *)
      echo "test.sh: unknown argument \"$1\"; see tools/test.sh --help" >&2
      exit 2
      ;;
  esac
done
case "$preset" in
  default | address | undefined | thread) ;;
  *)
    echo "test.sh: --sanitize takes address, undefined or thread, not \"$preset\"" >&2
    exit 2
    ;;
esac

tools/install_dependencies.sh
tools/install_dependencies.sh --with-mpi || echo "test.sh: no MPI; its tests are left out" >&2
jobs="$(nproc)"
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "$jobs"

# The thread sanitizer of GCC 12 needs the old memory layout; kernels with more random bits in it make it stop at start.
run=()
if [ "$preset" = thread ] && setarch "$(uname -m)" -R true 2>/dev/null; then
  run=(setarch "$(uname -m)" -R)
fi
exec "${run[@]}" ctest --preset "$preset" --parallel "$jobs" "$@" </dev/null
