#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'TEXT'
Usage: ./quickstart.sh [--no-install] [demo | test | bench | peers | claims | gpu]

  demo    build the program ether and the example finetune_digits, run the
          example, merge its adapter on disk and check the result (the default)
  test    build everything with warnings as errors and run all tests,
          then the tests under the address, undefined and thread sanitizers,
          and a minute of fuzzing; with nvcc the CUDA backend too, whose kernels
          are tested on the CPU in any case
  bench   build the benchmarks and run them: products, then the layer, LoRA, OFT
          and HRA beside the frozen layer on the shapes of known models, three
          quarters of an hour; writes tables and plots to bench/results/cpu
  peers   the same beside PEFT's layers on PyTorch, which is installed in
          build/peers (3 GB) from PyPI; writes to bench/results/peers
  claims  the paper's claims on a small network, five minutes on two cores;
          writes to bench/results/claims
  gpu     build for CUDA, run the tests on the GPU, also under compute-sanitizer,
          then the GPU's benchmarks, whose tables go to bench/results

Missing Debian or Ubuntu packages are installed with apt-get first.

  --no-install   install nothing: print the apt-get line and stop
  --help         print this text
TEXT
}

# shellcheck source=bench/quickstart.sh
source bench/quickstart.sh  # what bench, peers and claims do

say() { printf '== %s\n' "$*"; }
die() { printf 'quickstart.sh: %s\n' "$*" >&2 && exit 1; }

# Prints those of the named packages that are not installed.
missing() {
  local package
  for package in "$@"; do
    # shellcheck disable=SC2016  # the field is dpkg's, not the shell's
    if [[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" != *"ii "* ]]; then
      printf '%s\n' "$package"
    fi
  done
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_packages() {
  say "Installing with apt-get: $*"
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    die "this needs root, and sudo is not here. As root: apt-get install $*"
  fi
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y "$@"
}

# Whether packages that some tests want can be installed.
may_install() {
  [[ $install == yes ]] && command -v dpkg-query >/dev/null &&
    { ((EUID == 0)) || command -v sudo >/dev/null; }
}

check_packages() {
  local needed=(g++ cmake ninja-build libeigen3-dev catch2 libbenchmark-dev zlib1g-dev
    nlohmann-json3-dev libcli11-dev) wanted
  if ! command -v dpkg-query >/dev/null; then
    say "Not Debian or Ubuntu: going on in the hope that there is what they call ${needed[*]}"
    return
  fi
  mapfile -t wanted < <(missing "${needed[@]}")
  if ((${#wanted[@]} == 0)); then
    say "All needed packages are installed"
  elif [[ $install == yes ]]; then
    install_packages "${wanted[@]}"
  else
    say "Missing packages; install them with this line:"
    printf '%sapt-get install %s\n' "$( ((EUID == 0)) || echo 'sudo ')" "${wanted[*]}"
    exit 1
  fi
}

# configure PRESET PARTS [cmake options]: PARTS, of TOOL LIBRARY TESTS EXAMPLES BENCHMARKS, are asked for by name,
# since an earlier build in the same folder may have turned them off. build PRESET [targets];
# run_tests PRESET
configure() {
  local preset=$1 parts=$2 part
  shift 2
  for part in $parts; do set -- "$@" "-DETHER_BUILD_$part=ON"; done
  say "Configuring build/$preset" && cmake --preset "$preset" "$@"
}
build() {
  local preset=$1
  shift
  say "Building ${*:-everything} in build/$preset"
  cmake --build --preset "$preset" --parallel "$(nproc)" ${1:+--target "$@"}
}
run_tests() { say "Testing build/$1" && ctest --preset "$1" --parallel "$(nproc)"; }

# Sets `cuda` to the options of a build with ether::cuda, where there is an nvcc.
find_cuda() {
  cuda=()
  if [[ -x ${CUDACXX:-} ]] || command -v nvcc >/dev/null; then
    cuda=(-DETHER_CUDA=ON)
  elif [[ -x /usr/local/cuda/bin/nvcc ]]; then
    cuda=(-DETHER_CUDA=ON -DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc)
  fi
}

test_on_gpu() {
  local program=build/cuda/tests/cuda/ether_cuda_tests status=0
  "$program" || status=$?
  ((status != 77)) || die "this needs a GPU; what does not is part of ./quickstart.sh test"
  ((status == 0)) || die "the tests on the GPU have failed"
  ctest --preset cuda -R 'gpu:|decode_loop'
  say "Running the benchmarks"
  build/cuda/bench/cuda/ether_cuda_bench --out bench/results
  if ! command -v compute-sanitizer >/dev/null; then
    say "Left out: compute-sanitizer, which is not in PATH"
    return
  fi
  local tool
  for tool in memcheck racecheck synccheck; do
    say "Running the tests of bfloat16 under compute-sanitizer --tool $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$program" '*bfloat16*'
  done
}

# Whether clang++ has an OpenMP and a thread sanitizer that understand each other.
thread_sanitizer_works() {
  clang++ -fopenmp -fsanitize=thread tests/thread_sanitizer/race.cpp -o build/race &&
    TSAN_OPTIONS=ignore_noninstrumented_modules=1 build/race clean
} >build/race.log 2>&1

test_addresses() {
  # clang++ takes half as long as g++, which is there in any case.
  local compiler=clang++
  if ! clang++ -fopenmp -fsanitize=address,undefined tests/thread_sanitizer/race.cpp -o build/race \
    2>build/addresses.log; then compiler=g++; fi
  configure asan TESTS "-DCMAKE_CXX_COMPILER=$compiler"
  build asan ether_tests ether_io_tests
  run_tests asan
}

test_threads() {
  if ! thread_sanitizer_works; then
    say "Left out: the thread sanitizer, which needs clang and libomp-dev (see build/race.log)"
    return
  fi
  configure tsan TESTS
  build tsan ether_tests ether_race
  run_tests tsan
}

# The counts of instructions are part of the tests where there is valgrind, the oneDNN backend where there
# is oneDNN, other processors where there are qemu and a cross compiler.
prepare_test_packages() {
  local wanted=() packages=(valgrind libdnnl-dev clang libomp-dev qemu-user)
  if [[ $(uname -m) == x86_64 ]]; then packages+=(g++-aarch64-linux-gnu); fi
  if may_install; then mapfile -t wanted < <(missing "${packages[@]}"); fi
  if ((${#wanted[@]} > 0)); then install_packages "${wanted[@]}"; fi
  if ! command -v valgrind >/dev/null; then
    say "Left out: counting instructions, which needs valgrind"
  fi
}

# Whether clang++ has libFuzzer.
fuzzer_works() {
  printf 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address - -o build/fuzzer && build/fuzzer -runs=1
} >build/fuzzer.log 2>&1

test_fuzzing() {
  if ! fuzzer_works; then
    say "Left out: fuzzing, which needs clang with libFuzzer (see build/fuzzer.log)"
    return
  fi
  configure fuzz TESTS
  build fuzz ether_fuzz
  run_tests fuzz
}

# Python's safetensors, PEFT and transformers on Debian's torch, in build/python: sets `python` to
# the Python that the interchange test runs with (see tests/interchange/README.md).
prepare_interchange() {
  python=$PWD/build/python/bin/python
  local wanted packages=(python3-torch python3-psutil python3-requests python3-yaml python3-venv)
  if ! interchange_works && may_install; then
    mapfile -t wanted < <(missing "${packages[@]}")
    if ((${#wanted[@]} == 0)) || install_packages --no-install-recommends "${wanted[@]}"; then
      say "Installing Python packages in build/python"
      install_python_packages || say "That failed"
    fi
  fi
  if ! interchange_works; then
    say "Left out: the interchange test, which needs PEFT and torch (see build/python.log)"
    python=$(command -v python3 || true)
  fi
}
install_python_packages() {
  /usr/bin/python3 -m venv --system-site-packages build/python &&
    "$python" -m pip install -q --no-deps -r tests/interchange/requirements.txt
}
interchange_works() {
  "$python" -c 'import numpy, peft, safetensors, torch, transformers'
} >build/python.log 2>&1

# Debian 12 has no Eigen 5; the sources of the Python package ml_dtypes contain it. Sets `eigen5` to the options
# of a build that tests with it.
prepare_eigen5() {
  local folder=$PWD/build/eigen5
  if [[ $install == yes && ! -e $folder/Eigen/Core ]]; then
    say "Downloading Eigen 5 to build/eigen5"
    download_eigen5 "$folder" || say "That failed (see build/eigen5.log)"
  fi
  eigen5=("-DETHER_EIGEN5_DIR=$folder")
  if [[ ! -e $folder/Eigen/Core ]]; then
    say "Left out: compiling with Eigen 5, which is not in build/eigen5"
    eigen5=(-DETHER_EIGEN5_DIR=)
  fi
}
download_eigen5() {
  local package=ml_dtypes version=0.6.0
  rm -rf "$1" "$1.unfinished" && mkdir "$1.unfinished" &&
    "$python" -m pip download -q --no-deps --no-binary "$package" --dest "$1.unfinished" "$package==$version" &&
    tar -xzf "$1.unfinished/$package-$version.tar.gz" -C "$1.unfinished" --strip-components=3 \
      "$package-$version/third_party/eigen/Eigen" &&
    mv "$1.unfinished" "$1"
} >build/eigen5.log 2>&1

# merge_demo: the digits example, its adapter merged on disk
merge_demo() {
  say "Running build/release/examples/finetune_digits --save build/digits"
  build/release/examples/finetune_digits --save build/digits
  local merge=(build/release/tools/ether/ether merge --base build/digits/base
    --adapter build/digits/adapter --out build/digits/merged --verify --force)
  say "Running ${merge[*]}"
  "${merge[@]}"
  say "Running build/release/examples/finetune_digits --check build/digits"
  build/release/examples/finetune_digits --check build/digits
}

install=yes
command=demo
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit ;;
    --no-install) install=no ;;
    demo | test | bench | peers | claims | gpu) command=$1 ;;
    *)
      printf "quickstart.sh: unknown argument '%s'; see ./quickstart.sh --help\n" "$1" >&2
      exit 2
      ;;
  esac
  shift
done

check_packages
case $command in
  demo)
    configure release "TOOL EXAMPLES"
    build release finetune_digits ether_tool
    merge_demo
    ;;
  test)
    mkdir -p build
    prepare_interchange
    prepare_test_packages
    prepare_eigen5
    find_cuda
    if ((${#cuda[@]} == 0)); then say "Left out: building ether::cuda, which needs nvcc"; fi
    configure release "TOOL LIBRARY TESTS EXAMPLES BENCHMARKS" -DETHER_WERROR=ON -DETHER_PYTHON="$python" \
      "${eigen5[@]}" "${cuda[@]}"
    build release
    run_tests release
    test_addresses
    test_threads
    test_fuzzing
    ;;
  bench) run_benchmarks ;;
  peers) run_peers ;;
  claims) run_claims ;;
  gpu)
    find_cuda
    ((${#cuda[@]} > 0)) || die "this needs nvcc; put it in PATH or name it in CUDACXX"
    configure cuda "TESTS EXAMPLES BENCHMARKS" "${cuda[@]}"
    build cuda ether_cuda_tests ether_cuda_header_only decode_loop ether_cuda_bench
    test_on_gpu
    ;;
esac
say "Done in $SECONDS seconds"
