#!/usr/bin/env bash
# Installs the Debian packages that the build needs, those that are missing only. Needs root or sudo if anything is
# missing. CUDA and NCCL are used when they are there and never installed by this script.
#
#   tools/install_dependencies.sh [--with-mpi]       with Open MPI too, for ranks as processes
set -euo pipefail

# A program that is there needs no package, wherever it came from.
declare -A program_packages=([c++]=g++ [cmake]=cmake [ninja]=ninja-build)
library_packages=(libeigen3-dev nlohmann-json3-dev libfmt-dev libboost-program-options-dev libgtest-dev
                  libbenchmark-dev zlib1g-dev)
case "${1:-}" in
  "") ;;
  --with-mpi)
    program_packages[mpirun]=openmpi-bin
    command -v mpicxx >/dev/null || library_packages+=(libopenmpi-dev)
    ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_dependencies.sh: this is not a Debian system; nothing installed." >&2
  echo "  The build needs a C++20 compiler, CMake 3.25, Ninja, Eigen 3.4, nlohmann-json 3.11, fmt 9, zlib," >&2
  echo "  Boost.Program_options 1.74, GoogleTest and Google Benchmark; CMake names what it cannot find." >&2
  exit 0
fi

is_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

missing=()
for program in "${!program_packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${program_packages[$program]}")
done
for package in "${library_packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_dependencies.sh: not root and no sudo. As root, run:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
  fi
  as_root=(sudo)
fi

echo "Installing: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q)
"${apt[@]}" update </dev/null
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null
