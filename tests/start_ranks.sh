#!/usr/bin/env bash
# Starts COUNT processes of a program, each with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, and waits for
# all. Exit code: the first that is not zero, by rank.
#   tests/start_ranks.sh COUNT PROGRAM [ARGUMENT...]
set -uo pipefail
count=$1
shift
# A port that nobody listens at; below those that the system hands out by itself.
while port=$((10000 + RANDOM % 20000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
pids=()
for ((rank = 0; rank < count; rank++)); do
  RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$count MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$@" &
  pids+=($!)
done
trap 'kill "${pids[@]}" 2>/dev/null' INT TERM
code=0
for pid in "${pids[@]}"; do
  wait "$pid" || { each=$?; [[ $code -ne 0 ]] || code=$each; }
done
exit "$code"
