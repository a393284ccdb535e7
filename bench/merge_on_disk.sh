#!/usr/bin/env bash
# merge_on_disk.sh [BUILD [DIRECTORY [ROUNDS]]]: times `ether merge` of a 1.6 GB checkpoint beside
# copies of it, in turns, on the disk that holds DIRECTORY (8 GB free).
#
#   cp            cp -r, whose data still waits in memory when it returns
#   no flush      ether merge --no-flush, the same
#   cp + sync     cp -r, then sync -f: all is on the disk
#   merge         ether merge, the same
#
# Prints every round and the ratios of the medians; and the most anonymous memory that a merge held.
set -euo pipefail
build=${1:-build/release}
directory=${2:-$build/merge_on_disk}
rounds=${3:-9}
mkdir -p "$directory"
[[ -f $directory/base/model.safetensors.index.json ]] || "$build/bench/make_model" "$directory"
merge=("$build/tools/ether/ether" merge --base "$directory/base" --adapter "$directory/adapter"
  --out "$directory/out" --quiet)

# seconds COMMAND...: runs it with no output in place and nothing waiting to be written
seconds() {
  rm -rf "$directory/out"
  sync -f "$directory"
  local start=$EPOCHREALTIME
  "$@" >&2
  local end=$EPOCHREALTIME
  echo "$(((${end/./} - ${start/./}) / 1000))"
}
copy() { cp -r "$directory/base" "$directory/out"; }
copy_and_sync() { copy && sync -f "$directory/out"; }

peak_anonymous_memory() {
  rm -rf "$directory/out"
  "${merge[@]}" &
  local peak=0 now
  while now=$(awk '/^RssAnon/ { print $2 }' "/proc/$!/status" 2>/dev/null) && [[ -n $now ]]; do
    ((now > peak)) && peak=$now
    sleep 0.01
  done
  wait $!
  echo "$peak"
}

median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

times=$directory/times
printf '%6s %6s %9s %10s %6s   milliseconds\n' round cp 'no flush' 'cp + sync' merge
for ((round = 0; round <= rounds; ++round)); do
  ((round > 1)) || : >"$times" # the first round warms up
  row=("$(seconds copy)" "$(seconds "${merge[@]}" --no-flush)" "$(seconds copy_and_sync)"
    "$(seconds "${merge[@]}")")
  printf '%6d %6d %9d %10d %6d\n' "$round" "${row[@]}"
  echo "${row[@]}" >>"$times"
done
column_median() { cut -d' ' -f"$1" "$times" | median; }
awk -v c="$(column_median 1)" -v n="$(column_median 2)" -v s="$(column_median 3)" \
  -v m="$(column_median 4)" 'BEGIN {
    printf "no flush / cp %.2f, merge / (cp + sync) %.2f, merge / cp %.2f\n", n / c, m / s, m / c }'
echo "most anonymous memory of a merge: $(($(peak_anonymous_memory) / 1024)) MiB"
rm -rf "$directory/out" "$times"
