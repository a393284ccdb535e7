#!/usr/bin/env python3
"""Puts ETHER into llama.cpp, checks it against merged models, and times it beside LoRA.

    python3 bench/llama_cpp/llama_cpp.py --ether build/release/tools/ether/ether

Fetches llama.cpp from PyPI and builds it; what is already in the build folder is not made again.
Exit status 0: done; 1: a result is wrong or a step failed; 2: a bad argument.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import hook  # noqa: E402
import tables  # noqa: E402

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PACKAGE, VERSION = "llama-cpp-python", "0.3.36"  # of its sources, which hold llama.cpp's

# The adapters, by their directories: options of `ether init`, and the rank of the LoRA that equals each.
ADAPTERS = {"ether-input": (["--variant", "ether", "--sides", "input"], 32),
            "ether_plus-both": (["--variant", "ether_plus", "--sides", "both"], 128)}
LABELS = {"ether-input": "ETHER input n=32", "ether_plus-both": "ETHER+ both n=32"}
RANDOM_RANKS = (8, 64)
# Of a distance to the merged model: ten times the rounding, 6e-8, of some 10 operations in each of 12 layers,
# which add up as independent errors do.
LIMIT = 6e-6
FAR = 1e-2  # a wrong model must be at least this far away
TOKENS = 32  # of a turn


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ether", type=Path, required=True, help="the program ether")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build/llama_cpp",
                        help="for everything made on the way, 4 GB (default: build/llama_cpp)")
    parser.add_argument("--threads", type=int, default=2, help="of llama.cpp (default: 2)")
    parser.add_argument("--rounds", type=int, default=80, help="of each process (default: 80)")
    parser.add_argument("--processes", type=int, default=3, help="that are timed (default: 3)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(),
                        help="of the compilation (default: all processors)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/llama_cpp",
                        help="for the tables (default: bench/results/llama_cpp)")
    options = parser.parse_args()
    for name, least in (("threads", 1), ("rounds", 2), ("processes", 1), ("jobs", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be {least} or more")
    for name in ("ether", "build", "out"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def require_tools(options):
    if not os.access(options.ether, os.X_OK) or not options.ether.is_file():
        raise hook.Failure(f"there is no program {options.ether}; build the target ether_tool first")
    if not shutil.which("cmake"):
        raise hook.Failure("cmake is missing; on Debian and Ubuntu: apt-get install cmake")


def run(*command, **settings):
    """Standard output of a command; what it says to standard error is the user's to see."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True,
                          check=False, **settings)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:])
        shown = " ".join(str(part) for part in command[:4])
        raise hook.Failure(f"failed with exit status {done.returncode}: {shown} ...")
    return done.stdout


def make(path, step):
    """Has `step` write to a path beside `path` and gives it its name when it is whole, so that a run
    that was interrupted goes on where it stopped."""
    if path.exists():
        return path
    print(f"Makes {path.name}", flush=True)
    unfinished = path.with_name(path.name + ".unfinished")
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    step(unfinished)
    unfinished.rename(path)
    return path


def sources(python, build):
    """llama.cpp's sources, with the hook."""
    def unpack(unfinished):
        run(python, "-m", "pip", "download", f"{PACKAGE}=={VERSION}", "--no-deps",
            "--no-binary", PACKAGE, "--dest", build)
        unfinished.mkdir()
        run("tar", "-xzf", build / f"llama_cpp_python-{VERSION}.tar.gz", "-C", unfinished)

    root = make(build / f"sources-{VERSION}", unpack)
    source = root / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
    if not (source / "src" / "llama-graph.cpp").is_file():
        raise hook.Failure(f"{PACKAGE} {VERSION} does not hold llama.cpp where it should: {source}")
    hook.insert(source)
    return source


def program(source, options):
    """Cheap where nothing has changed, so it is always asked for."""
    objects = options.build / "program"
    print("Builds llama.cpp and the program: minutes, the first time", flush=True)
    new = not (objects / "CMakeCache.txt").exists()
    generator = ["-G", "Ninja"] if new and shutil.which("ninja") else []
    run("cmake", "-S", HERE, "-B", objects, *generator, "-DCMAKE_BUILD_TYPE=Release",
        f"-DLLAMA_CPP_SOURCE={source}")
    run("cmake", "--build", objects, "--target", "llama_cpp", "--parallel", options.jobs)
    return objects / "llama_cpp"


def python_with_packages(build):
    """A Python that has what model_files.py needs, except llama.cpp's gguf-py."""
    python = build / "venv" / "bin" / "python"
    if not (build / "venv" / "complete").exists():
        print("Makes venv", flush=True)
        run(sys.executable, "-m", "venv", "--clear", build / "venv")
        run(python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt")
        (build / "venv" / "complete").touch()
    return python


class Files:
    """The model, its adapters, and what is made of them."""

    def __init__(self, python, source, options):
        self.folder = options.build / "models"
        self.folder.mkdir(exist_ok=True)
        self.ether = options.ether
        self.python = python
        self.environment = {**os.environ, "PYTHONPATH": str(source / "gguf-py"),
                            "PYTHONDONTWRITEBYTECODE": "1"}

    def write(self, verb, *arguments):
        run(self.python, HERE / "model_files.py", verb, *arguments, env=self.environment)

    def base(self):
        return make(self.folder / "base", lambda to: self.write("checkpoint", to))

    def adapter(self, name):
        def init(to):
            run(self.ether, "init", "--base", self.base(), "--out", to, "--target-modules",
                "all-linear", "--num-blocks", 32, "--quiet", *ADAPTERS[name][0])
            self.write("move-apart", to)

        return make(self.folder / name, init)

    def merged(self, name):
        return make(self.folder / f"{name}-merged", lambda to: run(
            self.ether, "merge", "--base", self.base(), "--adapter", self.adapter(name), "--out", to,
            "--no-flush", "--quiet"))

    def exported(self, name):
        return make(self.folder / f"{name}-lora", lambda to: run(
            self.ether, "export-lora", "--base", self.base(), "--adapter", self.adapter(name),
            "--out", to, "--quiet"))

    def random_lora(self, rank):
        return make(self.folder / f"random-lora-{rank}",
                    lambda to: self.write("random-lora", to, rank))

    def gguf(self, checkpoint, kind):
        return make(self.folder / f"{checkpoint.name}-{kind}.gguf",
                    lambda to: self.write("gguf", checkpoint, to, kind))

    def lora_gguf(self, lora, kind):
        return make(self.folder / f"{lora.name}-{kind}.gguf",
                    lambda to: self.write("lora-gguf", lora, to, kind))


def check(llama_cpp, files, threads):
    """[(adapter, what, distance to the merged model, whether it must be far)]; raises Failure if one is
    not as it must be."""
    rows = []
    for name, label in LABELS.items():
        contestants = {"no adapter": ("base", True),
                       "ETHER in the graph": (f"ether:{files.adapter(name)}", False),
                       "exported LoRA": (f"lora:{files.lora_gguf(files.exported(name), 'f32')}",
                                         False)}
        if "both" in name:  # H_in does not see the order of rows
            contestants["ETHER without the order of rows"] = (
                f"ether-rows-ignored:{files.adapter(name)}", True)
        printed = run(llama_cpp, "check", files.gguf(files.merged(name), "f32"),
                      files.gguf(files.base(), "f32"), threads,
                      *(part for what, (adapter, _) in contestants.items()
                        for part in (what, adapter)))
        found = {row["label"]: float(row["distance"]) for row in tables.read(printed)}
        rows += [(label, what, found[what], far) for what, (_, far) in contestants.items()]
    for label, what, distance, far in rows:
        print(f"  {label}, {what}: {distance:.1e}")
        if not (distance >= FAR if far else distance <= LIMIT):
            limit = f"at least {FAR:g}" if far else f"at most {LIMIT:g}"
            raise hook.Failure(f"{label}, {what}: the distance to the merged model is {distance:.3g} "
                               f"and must be {limit}")
    return rows


def contestants(files):
    """{label: adapter}; LoRA in 16 bits, as llama.cpp's converter writes it."""
    found = {"base": "base", "base again": "base"}
    for name, label in LABELS.items():
        found[label] = f"ether:{files.adapter(name)}"
    for name, (_, rank) in ADAPTERS.items():
        found[f"LoRA r={rank} (equals {LABELS[name]})"] = (
            f"lora:{files.lora_gguf(files.exported(name), 'f16')}")
    for rank in RANDOM_RANKS:
        found[f"LoRA r={rank}"] = f"lora:{files.lora_gguf(files.random_lora(rank), 'f16')}"
    return found


def main():
    options = parse()
    require_tools(options)
    options.build.mkdir(parents=True, exist_ok=True)
    python = python_with_packages(options.build)
    source = sources(python, options.build)
    llama_cpp = program(source, options)
    files = Files(python, source, options)
    print("Checks", flush=True)
    distances = check(llama_cpp, files, options.threads)
    adapters, model = contestants(files), files.gguf(files.base(), "q8_0")
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for process in range(options.processes):
        print(f"Times {len(adapters)} contestants in {options.rounds} rounds, process {process + 1} of "
              f"{options.processes}", flush=True)
        header, *lines = run(llama_cpp, "time", model, options.threads, options.rounds, TOKENS,
                             *(part for labelled in adapters.items() for part in labelled)).splitlines()
        rows += [f"{process},{line}" for line in lines]
    printed = "\n".join([f"process,{header}", *rows, ""])
    (options.out / "llama_cpp.csv").write_text(printed)
    facts = [f"{PACKAGE} {VERSION}", f"decodes {TOKENS} tokens a turn, one by one, behind a prompt",
             f"{model.name}: {model.stat().st_size / 1e6:.0f} MB; random weights, the architecture of "
             "Llama, 12 layers of width 1024"]
    text = tables.report(printed, list(adapters), distances, options, facts)
    (options.out / "llama_cpp.md").write_text(text)
    print(text, f"Wrote llama_cpp.md and llama_cpp.csv to {options.out}", sep="\n")


if __name__ == "__main__":
    try:
        main()
    except (hook.Failure, OSError) as failure:
        sys.exit(f"llama_cpp.py: {failure}")
    except KeyboardInterrupt:
        sys.exit("llama_cpp.py: interrupted")
