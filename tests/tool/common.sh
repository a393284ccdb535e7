# Functions of the tests of the program ether; sourced as: common.sh ETHER HELPERS
# shellcheck shell=bash
set -uo pipefail
export LC_ALL=C.UTF-8
ether=$1
helpers=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/ether test ö.XXXXXX") # a space and UTF-8 in every path
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1
checks=0
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}
# check DESCRIPTION COMMAND...: the command must succeed.
check() {
  local what=$1
  shift
  checks=$((checks + 1))
  "$@" || fail "$what"
}

# run STATUS ARGUMENTS...: the program must end so. Leaves stdout and stderr in $work/stdout and
# $work/stderr. Whatever is on stderr must be lines that begin with "ether: ", and one, not a
# warning, where it failed.
run() {
  local expected=$1 status lines
  shift
  checks=$((checks + 1))
  "$ether" "$@" >"$work/stdout" 2>"$work/stderr"
  status=$?
  if ((status != expected)); then
    fail "status $status, not $expected: ether $*"
    sed 's/^/    /' "$work/stderr"
  fi
  if grep -qv '^ether: [^ ]' "$work/stderr"; then
    fail "a line on stderr that does not begin with 'ether: ': ether $*"
    sed 's/^/    /' "$work/stderr"
  fi
  lines=$(grep -cv '^ether: warning: ' "$work/stderr")
  if ((lines != (status == 0 ? 0 : 1))) && [[ ! (${1:-} == diff && $lines == 0) ]]; then
    fail "$lines lines of errors with status $status: ether $*"
    sed 's/^/    /' "$work/stderr"
  fi
}
# After run: a text that must be there, or not.
says() { check "stdout lacks '$1'" grep -qF -- "$1" "$work/stdout"; }
errs() {
  check "stderr lacks '$1'" grep -qF -- "$1" "$work/stderr" || true
  grep -qF -- "$1" "$work/stderr" || sed 's/^/    /' "$work/stderr"
}
silent() { check "stdout is not empty" test ! -s "$work/stdout"; }
# json POINTER VALUE: of the report on stdout.
json() {
  local value
  checks=$((checks + 1))
  value=$("$helpers/json_value" "$1" <"$work/stdout") || value="no valid JSON"
  [[ $value == "$2" ]] || fail "$1 is $value, not $2"
}

# Names, kinds and contents of everything in a directory.
snapshot() { (cd "$1" && find . -type d -print -o -type f -exec sha256sum {} + | sort); }
# unchanged NAME COMMAND...: the command leaves the working directory as it was.
unchanged() {
  local before after
  before=$(ls -A . && snapshot inputs)
  "$@"
  after=$(ls -A . && snapshot inputs)
  checks=$((checks + 1))
  if [[ $before != "$after" ]]; then
    fail "files changed: $*"
    diff <(echo "$before") <(echo "$after")
  fi
}

skip() {
  printf 'skipped: %s\n' "$*"
}
finish() {
  printf '%d checks, %d failures\n' "$checks" "$failures"
  ((failures == 0))
  exit
}

# Inputs of every test.
mkdir inputs
: >stdout
: >stderr
for kind in directory sharded gpt2; do "$helpers/make_checkpoint" $kind "inputs/$kind" || exit 1; done
for kind in file odd large; do
  "$helpers/make_checkpoint" $kind "inputs/$kind.safetensors" || exit 1
done
"$ether" init --base inputs/directory --out inputs/plus --variant ether_plus --sides both \
  --num-blocks 4 --target-modules q_proj,v_proj --quiet || exit 1
"$ether" init --base inputs/directory --out inputs/plain --num-blocks 2 --seed 3 \
  --target-modules down_proj --target-modules q_proj --quiet || exit 1
