#!/usr/bin/env bash
# Wrong usage has exit status 2 and changes nothing; help and version: usage.sh ETHER HELPERS
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

verbs="merge unmerge export-lora export-hra init inspect diff"
run 0 --version
check "version" grep -qx 'ether [0-9]*\.[0-9]*\.[0-9]*' stdout
run 0 --help
for verb in $verbs; do says "  $verb "; done
for verb in $verbs; do
  run 0 "$verb" --help
  says "Usage: ether $verb "
  says "Exit status:"
  says "Examples:"
  check "$verb --help fits 80 columns" test "$(wc -L <stdout)" -lt 80
  run 2 "$verb"
  errs "is required; see ether $verb --help"
  run 2 "$verb" --no-such-option
done

wrong() { unchanged run 2 "$@"; }
wrong
wrong --no-such-option
wrong no-such-verb
errs "'no-such-verb' is no verb"
wrong ""
wrong --quiet merge
wrong merge --base inputs/directory --adapter inputs/plain
errs "--out is required"
wrong merge --base inputs/directory --out o
wrong merge --adapter inputs/plain --out o
wrong merge --base inputs/directory --adapter inputs/plain --out
job=(--base inputs/directory --adapter inputs/plain --out o)
wrong merge "${job[@]}" stray
wrong merge "${job[@]}" --out p
wrong merge "${job[@]}" --base inputs/sharded
wrong merge "${job[@]}" --verify --dry-run
wrong merge --base inputs/directory --adapter inputs/plain --out ""
wrong merge --base inputs/directory --adapter "" --out o
wrong merge --base inputs/directory --adapter inputs/plain --out --force
for threads in -1 1025 1.5 1e3 x "" " 1" 0x1 99999999999999999999; do
  wrong merge "${job[@]}" --threads "$threads"
done
errs "from 0 to 1024"
for strength in nan inf -inf 1e999 x 1x "" "1,5"; do
  wrong merge "${job[@]}" --strength "$strength"
done
for dtype in f64 F32 float32 "" keep,f32; do wrong merge "${job[@]}" --dtype "$dtype"; done
wrong unmerge --merged inputs/directory --adapter inputs/plain --adapter inputs/plus --out o
for condition in 0.5 -1 nan inf x; do
  wrong unmerge --merged inputs/directory --adapter inputs/plain --out o --max-condition "$condition"
done
wrong unmerge "${job[@]}"
wrong export-hra "${job[@]}" --strength 1
wrong export-lora "${job[@]}" --dtype f64
wrong diff inputs/directory
wrong diff inputs/directory inputs/sharded inputs/gpt2
for tolerance in -1 nan inf x; do
  wrong diff inputs/directory inputs/sharded --tolerance "$tolerance"
done
wrong inspect inputs/directory inputs/sharded
job=(--base inputs/directory --out o --target-modules q_proj)
wrong init --base inputs/directory --out o
errs "--target-modules"
wrong init "${job[@]}" --target-regex '.*'
wrong init --base inputs/directory --out o --target-regex '(['
wrong init --base inputs/directory --out o --target-regex ''
wrong init --base inputs/directory --out o --target-modules ''
wrong init "${job[@]}" --variant ETHER
wrong init "${job[@]}" --sides left
wrong init "${job[@]}" --block-layout rows
wrong init "${job[@]}" --dtype bf16
for blocks in 0 -4 1.5 x 1073741825 ""; do
  wrong init "${job[@]}" --num-blocks "$blocks"
  wrong init "${job[@]}" --num-blocks-output "$blocks"
  wrong init "${job[@]}" --num-blocks-pattern "q_proj=$blocks"
done
wrong init "${job[@]}" --num-blocks-pattern q_proj
wrong init "${job[@]}" --num-blocks-pattern =4
wrong init "${job[@]}" --num-blocks-pattern q_proj=4 --num-blocks-pattern q_proj=2
errs "'q_proj'"
wrong init "${job[@]}" --target-modules all-linear
errs "all-linear"
wrong init "${job[@]}" --seed -1
wrong init "${job[@]}" --seed 18446744073709551616
wrong init "${job[@]}" --strength nan
wrong init "${job[@]}" $'--line\nbreak'
run 0 init "${job[@]}" --num-blocks 016 --quiet # decimal: 14 would not divide the width 32
finish
