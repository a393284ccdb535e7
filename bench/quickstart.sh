# shellcheck shell=bash
# What `./quickstart.sh bench`, `peers` and `claims` do; sourced by it.

run_benchmarks() {
  configure release BENCHMARKS
  build release ether_bench ether_adapter_bench
  prepare_plots
  mkdir -p build/release/bench/results
  run_product_benchmarks
  run_adapter_benchmarks
}

run_peers() {
  configure release BENCHMARKS
  build release ether_adapter_bench
  prepare_peers
  build/peers/bin/python bench/peers/peers.py --out bench/results/peers
}

run_claims() {
  prepare_plots
  configure release BENCHMARKS
  build release ether_claims
  build/release/bench/claims/ether_claims --out bench/results/claims
  "$python" bench/claims/report.py bench/results/claims
}

# Sets `python` to one with matplotlib, for plots.
prepare_plots() {
  local wanted
  if ! find_plots && may_install; then
    mapfile -t wanted < <(missing python3 python3-matplotlib)
    if ((${#wanted[@]} > 0)); then install_packages --no-install-recommends "${wanted[@]}"; fi
  fi
  find_plots || die "tables and plots need Python with matplotlib (python3-matplotlib)"
}
find_plots() {
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import matplotlib' 2>/dev/null; then return; fi
  done
  false
}

run_product_benchmarks() {
  say "Running build/release/bench/ether_bench: the products"
  build/release/bench/ether_bench --benchmark_filter='-forward|backward|merge|copy' \
    --benchmark_out=build/release/bench/results/products.json
}

# Every method on every shape, but for what takes longest and tells least; and, longer, since what
# they add is small, those that the comparison is about, in ten processes or ETHER_BENCH_PROCESSES,
# since it depends on where a process has its data.
run_adapter_benchmarks() {
  local adapters=(build/release/bench/ether_adapter_bench) results=build/release/bench/results
  local shape=float/llama-2-7b-attention process commit
  local methods='ether(_plus)?_n(1|32)|lora_r8'
  local main="forward/$shape/($methods)/tokens:128/"
  local short="forward/float/sd-1.5-1280/($methods)/tokens:128/|prologue/$shape/($methods)/"
  local more="forward/$shape/(ether(_plus)?_n4|.*kept.*|lora_r(4|16|64)|oft.*|hra.*)/tokens:128/|\
forward/$shape/(ether(_plus)?_n32|weight_space.*)/tokens:1/|backward/$shape/.*/tokens:128/|merge/$shape/"
  commit=$(git describe --always --dirty 2>/dev/null) || commit=unknown
  adapters+=("--benchmark_context=commit=$commit")
  say "Running ${adapters[*]}"
  "${adapters[@]}" --benchmark_out="$results/all.json" --benchmark_filter="-$main|$short|$more|\
mlp-.*(tokens:512|weight_space)|bfloat16/(llama-2-7b-mlp|deberta|sd-)"
  rm -f "$results"/{main,short}-*.json
  for ((process = 1; process <= ${ETHER_BENCH_PROCESSES:-10}; ++process)); do
    "${adapters[@]}" --benchmark_out="$results/main-$process.json" --benchmark_filter="$main" \
      --benchmark_repetitions=5 --benchmark_min_time=1
    "${adapters[@]}" --benchmark_out="$results/short-$process.json" --benchmark_filter="$short" \
      --benchmark_repetitions=8 --benchmark_min_time=0.2
  done
  "${adapters[@]}" --benchmark_out="$results/more.json" --benchmark_filter="$more" \
    --benchmark_repetitions=10 --benchmark_min_time=0.4
  "$python" bench/adapters/report.py "$results"/{all,main-*,short-*,more}.json \
    --products "$results/products.json" --out bench/results/cpu
}

# PyTorch and PEFT in build/peers; PyPI's PyTorch, since Debian's multiplies at a fraction of its rate.
prepare_peers() {
  local import='import matplotlib, numpy, peft, torch, transformers'
  if ! build/peers/bin/python -c "$import" 2>/dev/null; then
    # shellcheck disable=SC2154  # quickstart.sh sets it
    [[ $install == yes ]] || die "this needs PyTorch and PEFT, see bench/peers/README.md"
    local wanted=()
    if may_install; then mapfile -t wanted < <(missing python3 python3-venv); fi
    if ((${#wanted[@]} > 0)); then install_packages "${wanted[@]}"; fi
    say "Installing PyTorch and PEFT in build/peers"
    mkdir -p build
    python3 -m venv build/peers
    build/peers/bin/python -m pip install -q -r bench/peers/requirements.txt
  fi
}
