#!/usr/bin/env bash
# Full and read-only disks, and a standard output that cannot be written: disk.sh ETHER HELPERS
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$helpers/make_checkpoint" zeros zeros.safetensors 8
run 0 init --base zeros.safetensors --out adapter --target-modules all-linear --num-blocks 128 --quiet
job=(merge --base "$work/zeros.safetensors" --adapter "$work/adapter")

# --- A limit on the size of files ---
limited() { # EXPECTED-SENTENCE ARGUMENTS...
  local sentence=$1
  shift
  checks=$((checks + 1))
  (ulimit -f 2000 && exec "$ether" "$@") >stdout 2>stderr
  local status=$?
  ((status == 1)) || fail "status $status with a limit on file sizes: $*"
  errs "$sentence"
  check "one line" test "$(wc -l <stderr)" = 1
  check "nothing is left" test -z "$(find . -name '*limited*')"
}
limited "cannot write" "${job[@]}" --out limited
limited "; the output needs 7995600 bytes" "${job[@]}" --out limited.safetensors
limited "; the output needs " export-lora --base zeros.safetensors --adapter adapter --out limited
"$helpers/make_checkpoint" zeros wide.safetensors 4000 # sparse
limited "; the output needs " init --base wide.safetensors --out limited --target-modules all-linear \
  --sides both --dtype f64 --variant ether_plus

# --- A full disk ---
# shellcheck disable=SC2016  # expanded by the inner shell
full='mount -t tmpfs -o size=1m none "$1" && shift && "$@"; status=$?; ls -A full; exit $status'
mkdir full
# shellcheck disable=SC2016  # as above
if unshare -rm bash -c 'mount -t tmpfs -o size=1m none "$1"' _ full 2>/dev/null; then
  for verb in merge export-lora; do
    checks=$((checks + 1))
    unshare -rm bash -c "$full" _ full "$ether" $verb --base zeros.safetensors --adapter adapter \
      --out full/out --quiet >stdout 2>stderr
    status=$?
    if ((status != 1)); then
      fail "status $status on a full disk: $verb"
    fi
    check "the disk is left empty" test ! -s stdout
    check "one line" test "$(wc -l <stderr)" = 1
    errs "bytes"
  done
  checks=$((checks + 1))
  unshare -rm bash -c "$full" _ full "$ether" "${job[@]}" --dry-run --quiet --out full/out \
    >stdout 2>stderr
  check "a dry run sees that the disk is full" grep -q "free$" stderr
else
  skip "a full disk: no file system can be mounted here"
fi

# --- A base that is read-only, and an output that is ---
cp -r inputs/directory locked
chmod -R a-w locked
run 0 merge --base locked --adapter inputs/plain --out free --quiet
check "the copy can be written" test -w free/config.json -a -w free/model.safetensors
if ((EUID == 0)); then
  skip "an output directory without permission: root has every permission"
else
  mkdir sealed && chmod a-w sealed
  unchanged run 1 merge --base inputs/directory --adapter inputs/plain --out sealed/out
  errs "Permission denied"
  unchanged run 1 merge --base inputs/directory --adapter inputs/plain --out sealed/out --dry-run
  errs "Permission denied"
fi

# --- A base of symbolic links, as the hub's cache has ---
mkdir -p hub/blobs hub/snapshot
cp inputs/sharded/* hub/blobs 2>/dev/null
for blob in hub/blobs/*; do ln -s "../blobs/${blob##*/}" hub/snapshot/; done
run 0 merge --base hub/snapshot --adapter inputs/plain --out real --quiet
check "real files are written" test -z "$(find real -type l)"

# --- Standard output ---
# stdout_fails DESCRIPTION ARGUMENTS...: with stdout as the file descriptor `to` redirects it
stdout_fails() {
  local status=$1
  checks=$((checks + 1))
  ((status == 1)) || fail "status $status with $2"
  check "one line with $2" grep -qx 'ether: cannot write to standard output: .*' stderr
  check "no other line with $2" test "$(wc -l <stderr)" = 1
}
for arguments in --help --version "merge --help" "inspect adapter" "inspect zeros.safetensors --json"; do
  # shellcheck disable=SC2086  # words
  "$ether" $arguments >/dev/full 2>stderr
  stdout_fails $? "a full device: $arguments"
  # shellcheck disable=SC2086
  "$ether" $arguments >&- 2>stderr
  stdout_fails $? "a closed stdout: $arguments"
done
"$ether" "${job[@]}" --out closed --threads 1 >&- 2>stderr
stdout_fails $? "a closed stdout: merge"
run 0 merge --base zeros.safetensors --adapter adapter --out open --quiet
check "a closed stdout does not end up in the output" test "$(snapshot closed)" = "$(snapshot open)"
run 0 merge --base zeros.safetensors --adapter adapter --out open --force --quiet >&-
# A pipe whose reader has gone: the writer waits until it has.
(
  while ! test -e gone; do sleep 0.05; done
  "$ether" inspect inputs/sharded 2>stderr
  echo $? >status
) | { exec 0<&-; : >gone; while ! test -e status; do sleep 0.05; done; }
stdout_fails "$(cat status)" "a broken pipe"
finish
