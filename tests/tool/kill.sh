#!/usr/bin/env bash
# Killed or interrupted at any moment, a job leaves its output absent, or complete, or as it was,
# and its inputs untouched; the next job removes what a killed one left: kill.sh ETHER HELPERS
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$helpers/make_checkpoint" zeros inputs/zeros.safetensors 200
run 0 init --base inputs/zeros.safetensors --out inputs/adapter --target-modules all-linear --quiet
before=$(snapshot inputs)

# kill_at SIGNAL DELAY ARGUMENTS...: starts the program and sends the signal after DELAY seconds, or,
# for DELAY "writing", once it has begun to write. Sets `status`.
kill_at() {
  local signal=$1 delay=$2 job
  shift 2
  "$ether" "$@" >stdout 2>stderr &
  job=$!
  if [[ $delay == writing ]]; then
    while kill -0 $job 2>/dev/null && [[ -z $(find . -maxdepth 1 -name '.*partial') ]]; do :; done
  else
    sleep "$delay"
  fi
  kill -s "$signal" $job 2>/dev/null
  wait $job 2>/dev/null
  status=$?
}
random_delay() { printf '0.%03d' $((RANDOM % $1)); }
hidden() { find . -maxdepth 1 -name '.*ether*'; }
# shellcheck disable=SC2317  # called by check
# output_is NAME REFERENCE...: absent, or one of the references.
output_is() {
  local output=$1 reference
  shift
  [[ -e $output ]] || return 0
  for reference in "$@"; do
    if diff -rq "$output" "$reference" >/dev/null; then return 0; fi
  done
  return 1
}

# kills NUMBER MILLISECONDS ARGUMENTS...: kills jobs with output `out` at random moments.
kills() {
  local number=$1 longest=$2 complete=0 left=0 i
  shift 2
  run 0 "$@" --out reference --quiet
  for ((i = 0; i < number; ++i)); do
    kill_at KILL "$(random_delay "$longest")" "$@" --out out
    check "the output of a killed job is not complete" output_is out reference
    if [[ -e out ]]; then complete=$((complete + 1)); fi
    if [[ -n $(hidden) ]]; then left=$((left + 1)); fi
    rm -rf out
  done
  printf '%s: %d killed, %d had completed, %d left something behind\n' "$1" "$number" "$complete" \
    "$left"
  # The next one cleans up.
  kill_at KILL writing "$@" --out out
  rm -rf out
  run 0 "$@" --out out --quiet
  check "leftovers stay after the next job" test -z "$(hidden)"
  check "the next job's output is complete" diff -rq out reference
  # Replacing, the old output stays until the new one is complete.
  rm -rf old && cp -r inputs/directory old && rm -rf out
  for ((i = 0; i < number / 2; ++i)); do
    if [[ ! -e out ]]; then cp -r old out; fi
    kill_at KILL "$(random_delay "$longest")" "$@" --out out --force
    check "a killed job left neither the old output nor the new" output_is out old reference
    check "a killed job left no output" test -e out
    rm -rf out
  done
  run 0 "$@" --out out --force --quiet
  check "leftovers stay after the next job" test -z "$(hidden)"
  rm -rf out reference old
}
kills 30 40 merge --base inputs/directory --adapter inputs/plain
kills 20 900 merge --base inputs/zeros.safetensors --adapter inputs/adapter
kills 10 60 export-lora --base inputs/directory --adapter inputs/plus
check "the inputs changed" test "$(snapshot inputs)" = "$before"

# --- Interrupted ---
interrupts=0
for signal in INT TERM INT TERM INT TERM; do
  kill_at $signal writing merge --base inputs/zeros.safetensors --adapter inputs/adapter --out out \
    --threads 1
  if ((status == 0)); then # the signal came after the last piece of work
    check "an output is complete" test -f out/model.safetensors
  else
    interrupts=$((interrupts + 1))
    expected=$([[ $signal == INT ]] && echo 130 || echo 143)
    check "status $status after SIG$signal" test $status = "$expected"
    check "no sentence" grep -qx "ether: interrupted; nothing was written" stderr
    check "an interrupted job left an output" test ! -e out
  fi
  check "an interrupted job left something behind" test -z "$(hidden)"
  rm -rf out
done
check "no job was interrupted" test $interrupts -gt 0
check "the inputs changed" test "$(snapshot inputs)" = "$before"

# --- Two at once ---
"$ether" merge --base inputs/zeros.safetensors --adapter inputs/adapter --out out --threads 1 \
  --quiet 2>first &
job=$!
while kill -0 $job 2>/dev/null && [[ -z $(hidden) ]]; do :; done
"$ether" merge --base inputs/directory --adapter inputs/plain --out out --quiet 2>second
second=$?
wait $job
first=$?
check "both of two jobs with one output succeeded" test $((first + second)) = 1
check "the sentence of the second" grep -q "another process is writing\|exists" first second
check "something hidden is left" test -z "$(hidden)"
finish
