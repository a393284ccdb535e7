#!/usr/bin/env bash
# Every verb does what it says: verbs.sh ETHER HELPERS
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# --- init and inspect ---
run 0 init --base inputs/directory --out fresh --variant ether_plus --sides both --num-blocks 4 \
  --num-blocks-output 8 --num-blocks-pattern down_proj=2 --num-blocks-pattern 0.mlp.down_proj=16 \
  --block-layout diagonal --strength 0.5 --target-modules q_proj,v_proj --target-modules down_proj \
  --exclude-modules 1.self_attn.v_proj --seed 18446744073709551615 --dtype f64 \
  --base-model-name "org/na me" --task-type CAUSAL_LM --json
json /config/num_blocks_output 8
json /config/num_blocks_pattern/0.mlp.down_proj 16
json /config/base_model_name_or_path "org/na me"
json /config/target_modules '["q_proj","v_proj","down_proj"]'
json /config/exclude_modules '["1.self_attn.v_proj"]'
json /modules '["model.layers.0.mlp.down_proj","model.layers.0.self_attn.q_proj","model.layers.0.self_attn.v_proj","model.layers.1.mlp.down_proj","model.layers.1.self_attn.q_proj"]'
json /parameters $((2 * (128 + 80 + 64 + 128 + 80)))
json /dtype F64
run 0 inspect fresh --json
json /kind adapter
json /modules/0/input_shape '[16,6]'
json /modules/1/output_shape '[8,6]'
json /modules/1/lora_rank 24
check "u.v is -1" grep -q '"smallest_cosine": \(1.0\|0.999999\)' stdout
json /modules/1/input_distance 0.0
json /totals/bytes $((8 * 2 * 480))
json /totals/by_dtype/F64/tensors 20
run 0 inspect fresh
says "model.layers.0.self_attn.v_proj  (4, 8)"
says "5 modules, 20 tensors, 960 parameters, 7.68 kB, all F64"
run 0 init --base inputs/directory --out linear --target-modules all-linear
says "6 modules, 320 parameters (F32) written to 'linear'"
run 0 init --base inputs/directory --out linear --target-regex '.*\.0\..*proj' --force --json
json /config/target_modules '.*\.0\..*proj'
json /modules/2 model.layers.0.self_attn.v_proj
run 0 inspect linear --json
json /modules/0/output_shape null
json /modules/0/input_distance 2.0
json /modules/0/smallest_cosine null
run 0 inspect inputs/sharded --json
json /kind checkpoint
json /tensors/0/name model.embed_tokens.weight
json /tensors/0/shape '[50,32]'
json /tensors/0/bytes 3200
json /tensors/0/shard model-00001-of-00003.safetensors
json /totals/tensors 13
json /totals/by_dtype/I64/bytes 128
run 0 inspect inputs/sharded
says "13 tensors, "
run 0 inspect inputs/odd.safetensors
says "ein Name mit Größe.weight  F32    (8, 8)  256 B"
says "日本語.weight              F32    (8, 8)  256 B"
says 'red\x1b[31m\nline.weight'
check "numbers by value" test "$(grep -o 'z\.[0-9]*' stdout | tr '\n' ' ')" = "z.2 z.10 "
check "no raw control character" test "$(tr -cd '\033' <stdout | wc -c)" = 0
run 0 inspect inputs/odd.safetensors --json
json /tensors/1/name $'red\x1b[31m\nline.weight'

# --- merge ---
run 0 merge --base inputs/directory --adapter inputs/plain --out merged --verify --json
json /verb merge
json /modules/0/name model.layers.0.mlp.down_proj
json /modules/0/out 32
json /modules/0/in 96
json /modules/0/dtype F32
json /modules/0/input_distance 2.8284271247461903
json /modules/0/overflowed 0
json /verified_elements $((2 * (32 * 96 + 48 * 32)))
json /warnings '[]'
json /bytes "$(cat merged/* merged/assets/* 2>/dev/null | wc -c)"
check "other files are copied" cmp "inputs/directory/tökenizer config.json" "merged/tökenizer config.json"
check "directories are copied" cmp inputs/directory/assets/notes.txt merged/assets/notes.txt
run 0 merge --base inputs/directory --adapter inputs/plain --out merged --force --threads 1
says "|W'-W|/|W|"
says "4 modules; "
check "no speed of a moment" test -z "$(grep 'written in 0.0.*/s' stdout)"
run 0 merge --base inputs/directory --adapter inputs/plus --adapter inputs/plain --out two
says "adapters"
run 0 merge --base inputs/sharded --adapter linear --adapter inputs/plain --out sharded \
  --verify --dtype f32 --strength 0.25 --json
json /modules/0/dtype F32
json /modules/0/adapters '["linear","inputs/plain"]'
check "a shard without adapted weights is copied" \
  cmp {inputs/,}sharded/model-00003-of-00003.safetensors
run 0 merge --base inputs/sharded --adapter inputs/plain --strength 0 --out zero --quiet
silent
run 0 diff inputs/sharded zero
says "13 tensors in both, 13 identical"
run 0 merge --base inputs/file.safetensors --adapter inputs/plain --out "out file.safetensors"
check "a file for a file" test -f "out file.safetensors"
run 0 merge --base inputs/file.safetensors --adapter inputs/plain --out "out dir"
check "the same in a directory" cmp "out file.safetensors" "out dir/model.safetensors"
run 0 diff merged "out dir"
run 0 init --base inputs/odd.safetensors --out odd --target-regex '[^]*' --num-blocks 2
run 0 merge --base inputs/odd.safetensors --adapter odd --out odd.safetensors --verify
says 'red\x1b[31m\nline     8   8'
run 0 init --base inputs/gpt2 --out conv --target-modules c_attn --fan-in-fan-out --num-blocks 3 \
  --sides output --json
json /parameters 96
run 0 merge --base inputs/gpt2 --adapter conv --out gpt2 --verify --json
json /modules/0/out 96
json /modules/0/in 32
run 0 init --base inputs/large.safetensors --out big --target-modules big
run 0 merge --base inputs/large.safetensors --adapter big --out f16 --dtype f16 --allow-overflow --json
errs "ether: warning: module 'big': "
json /modules/0/dtype F16
check "overflows are counted" test "$("$helpers/json_value" /modules/0/overflowed <stdout)" -gt 0

# --- dry runs ---
unchanged run 0 merge --base inputs/directory --adapter inputs/plain --dry-run
says "nothing was written"
unchanged run 0 merge --base inputs/directory --adapter inputs/plain --dry-run --out new --json
json /dry_run true
json /output new
unchanged run 0 unmerge --merged merged --adapter inputs/plain --dry-run

# --- unmerge and diff ---
run 0 unmerge --merged merged --adapter inputs/plain --out restored --json
json /verb unmerge
json /merged merged
run 1 diff inputs/directory restored
says "differs"
run 0 diff inputs/directory restored --tolerance 1e-6
says "tolerated"
run 0 diff inputs/directory restored --tolerance 1e-6 --all
says "identical"
run 1 diff inputs/directory merged --json
json /differs true
json /tensors/0/name model.layers.0.mlp.down_proj.weight
json /identical 9
run 1 diff inputs/directory merged --quiet
silent
run 1 diff inputs/directory inputs/sharded
says "F32 | BF16"
run 1 diff inputs/odd.safetensors inputs/gpt2
says "only in A"
says "only in B"
run 1 diff inputs/file.safetensors inputs/odd.safetensors --tolerance 1 --json
json /only_in_b/1 $'red\x1b[31m\nline.weight'
json /compared 0

# --- exports ---
run 0 export-lora --base inputs/directory --adapter inputs/plus --out lora
says "LoRA of rank 16 for 4 modules"
run 0 export-lora --base inputs/directory --adapter inputs/plus --out lora --force --dtype bf16 \
  --strength 0.5 --json
json /rank 16
json /modules 4
json /dtype BF16
json /bytes "$(wc -c <lora/adapter_model.safetensors)"
run 0 init --base inputs/directory --out chunks --target-modules q_proj --block-layout row_chunk \
  --num-blocks 4
run 1 export-lora --base inputs/directory --adapter chunks --out large
errs "needs a LoRA of rank 16; --allow-large-rank writes it"
run 0 export-lora --base inputs/directory --adapter chunks --out large --allow-large-rank --json
json /rank 16
run 0 export-hra --base inputs/directory --adapter inputs/plain --out hra --json
json /rank 2
json /bytes "$(wc -c <hra/adapter_model.safetensors)"
run 0 export-hra --base inputs/directory --adapter inputs/plain --out hra --force
says "HRA of rank 2 for 4 modules"

check "nothing hidden is left" test -z "$(find . -name '.*ether*')"
finish
