#!/usr/bin/env bash
# What is refused has exit status 1 and one sentence, and changes nothing: refusals.sh ETHER HELPERS
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# refused SENTENCE ARGUMENTS...
refused() {
  local sentence=$1
  shift
  unchanged run 1 "$@"
  errs "$sentence"
  silent
}
merge() { refused "$1" merge --base inputs/directory --adapter inputs/plain "${@:2}"; }

# --- Places of the output ---
cp -r inputs/directory exists
mkdir full && echo text >full/letter.txt
echo text >file.txt
ln -s nowhere link
merge "exists; --force replaces it" --out exists
merge "exists; --force replaces it" --out exists/
merge "exists; --force replaces it" --out exists --dry-run
merge "without a checkpoint or an adapter" --out full --force
merge "is not replaced" --out file.txt --force
merge "symbolic link" --out link --force
merge "does not exist" --out none/there
merge "does not exist" --out none/there --dry-run
for input in inputs/directory inputs/plain; do
  merge "is, holds or lies inside" --out $input --force
  merge "is, holds or lies inside" --out $input/inside
  merge "is, holds or lies inside" --out $input/inside --dry-run
done
merge "is, holds or lies inside" --out inputs --force
merge "is, holds or lies inside" --out exists/../inputs/directory/x
ln -s inputs/directory alias
merge "is, holds or lies inside" --out alias/x
refused "exists" init --base inputs/directory --out exists --target-modules q_proj
refused "exists" export-hra --base inputs/directory --adapter inputs/plain --out exists
refused "is, holds or lies inside" unmerge --merged inputs/directory --adapter inputs/plain \
  --out inputs/directory --force
refused "is, holds or lies inside" init --base inputs/directory --out inputs/directory/adapter \
  --target-modules q_proj
check "what was there is there" test -f full/letter.txt -a -f file.txt -a -L link

# --- Inputs that are missing or broken ---
out=(--out o)
refused "No such file" merge --base none --adapter inputs/plain "${out[@]}"
refused "No such file" merge --base inputs/directory --adapter none "${out[@]}"
refused "model.safetensors" merge --base full --adapter inputs/plain "${out[@]}"
refused "" merge --base inputs/directory --adapter inputs/file.safetensors "${out[@]}"
refused "not a regular file" inspect /dev/null
refused "File name too long" inspect "$(printf 'x%.0s' {1..300})"
refused "is a file; give the adapter's directory" merge --base inputs/directory \
  --adapter inputs/file.safetensors "${out[@]}"
refused "'inputs/directory' is no adapter: it has no adapter_config.json" merge \
  --base inputs/directory --adapter inputs/directory "${out[@]}"
merge "the base is a directory" --out name.safetensors
refused "No such file" inspect none
refused "No such file" diff inputs/directory none
refused 'no\nsuch\x1b file' inspect $'no\nsuch\x1b file'
refused 'caf\xe9' inspect $'caf\xe9'
printf 'short' >short.safetensors
refused "8 bytes" inspect short.safetensors
head -c 20000 inputs/file.safetensors >cut.safetensors
refused "follow it" merge --base cut.safetensors --adapter inputs/plain "${out[@]}"
# changed FIELD VALUE: an adapter with another configuration
changed() {
  rm -rf changed && cp -r inputs/plain changed
  sed -i "s|\"$1\": [^,]*|\"$1\": $2|" changed/adapter_config.json
}
while read -r field value; do
  changed "$field" "$value"
  refused "$field" merge --base inputs/directory --adapter changed "${out[@]}"
done <<'FIELDS'
variant "ETHER"
variant "ether_plus"
sides "left"
num_blocks 0
peft_type "LORA"
strength "1"
bias "all"
block_layout 3
format_version 2
FIELDS
changed num_blocks 4
refused "has 2 blocks, but adapter_config.json says 4" inspect changed
changed num_blocks '2, "num_blocks": 2'
refused "twice" inspect changed
changed task_type '"x", "colour": "red"'
run 0 merge --base inputs/directory --adapter changed --out o --quiet
errs "ether: warning: changed/adapter_config.json: the unknown field 'colour' is ignored"
for verb in export-lora export-hra; do
  run 0 $verb --base inputs/directory --adapter changed --out o --force --quiet
  errs "ether: warning: "
done
rm -rf o

# --- Adapters and bases that do not fit ---
refused "down_proj" merge --base inputs/gpt2 --adapter inputs/plain "${out[@]}"
run 0 init --base inputs/gpt2 --out wide --target-modules c_attn --quiet # without fan_in_fan_out
errs "'h.0.attn.c_attn.bias' has 96 elements, but the weight is (32, 96), out 32: is it stored as"
for verb in merge export-lora; do
  run 0 $verb --base inputs/gpt2 --adapter wide "${out[@]}" --quiet
  errs "Then fan_in_fan_out must be true"
  rm -rf o
done
"$helpers/make_checkpoint" gpt2 other
run 0 init --base inputs/gpt2 --out turned --target-modules c_attn --fan-in-fan-out --quiet
sed -i 's/"fan_in_fan_out": true/"fan_in_fan_out": false/' turned/adapter_config.json
refused "fan_in_fan_out" merge --base inputs/gpt2 --adapter turned "${out[@]}"
refused "divide the width" init --base inputs/directory "${out[@]}" --target-modules q_proj \
  --num-blocks 5
refused "selects none" init --base inputs/directory "${out[@]}" --target-modules none
refused "'v_prj'" init --base inputs/directory "${out[@]}" --target-modules q_proj,v_prj
refused "'v_proj'" init --base inputs/directory "${out[@]}" --target-modules q_proj \
  --num-blocks-pattern v_proj=2
refused "row_chunk" init --base inputs/gpt2 "${out[@]}" --target-modules c_attn --fan-in-fan-out \
  --block-layout row_chunk --num-blocks 2
run 0 init --base inputs/large.safetensors --out big --target-modules big --quiet
refused "; --allow-overflow" merge --base inputs/large.safetensors --adapter big "${out[@]}" \
  --dtype f16
refused "beyond the range of F16" merge --base inputs/large.safetensors --adapter big "${out[@]}" \
  --dtype f16
refused "beyond the range of F16" export-lora --base inputs/large.safetensors --adapter big \
  "${out[@]}" --dtype f16 --quiet
refused "beyond the range of F16" merge --base inputs/large.safetensors --adapter big --dry-run \
  --dtype f16
refused "module 'model.layers.0.mlp.down_proj'" unmerge --merged inputs/directory \
  --adapter inputs/plain --strength 0.5 "${out[@]}"
refused "condition" unmerge --merged inputs/directory --adapter inputs/plain --strength 0.4 \
  --max-condition 4 "${out[@]}"
errs "; --max-condition allows more"
run 0 unmerge --merged inputs/directory --adapter inputs/plain --strength 0.4 --max-condition 5.5 \
  --out o --quiet
rm -rf o
refused "variant" export-hra --base inputs/directory --adapter inputs/plus "${out[@]}"

# --- Replacing ---
rm -rf exists && cp -r inputs/directory exists
run 0 merge --base inputs/directory --adapter inputs/plain --out exists --force --quiet
run 0 merge --base inputs/directory --adapter inputs/plain --out fresh --quiet
check "what is replaced is replaced" test "$(snapshot exists)" = "$(snapshot fresh)"
check "nothing hidden is left" test -z "$(find . -name '.*ether*')"
finish
