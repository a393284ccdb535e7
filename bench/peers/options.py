"""The arguments of peers.py, and the names that they may take."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import figures  # noqa: E402
import ours  # noqa: E402

SHAPES = {  # (out, in)
    "llama-2-7b-attention": (4096, 4096),
    "llama-2-7b-mlp-up": (11008, 4096),
    "llama-2-7b-mlp-down": (4096, 11008),
    "phi-1.5": (2048, 2048),
    "deberta-v3-base-ffn": (3072, 768),
    "sd-1.5-320": (320, 320),
    "sd-1.5-640": (640, 640),
    "sd-1.5-1280": (1280, 1280),
}
PEERS = ("lora_r8", "lora_r16", "oft_b32", "oft_b32_exact", "oft_b32_kept", "hra_r8")
OURS = ("ether_n1", "ether_n4", "ether_n32", "ether_plus_n1", "ether_plus_n4", "ether_plus_n32",
        "ether_plus_s_kept_n1", "ether_plus_s_kept_n32", "lora_r8", "oft_b32", "hra_r8")
OPERATIONS = ("forward", "backward")
ROOT = Path(__file__).resolve().parents[2]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; exit status 2."""

    def error(self, message):
        self.exit(2, f"peers.py: {message}; see --help\n")


def names(allowed):
    """An argument type: names out of `allowed`, separated by commas."""
    def convert(argument):
        for name in argument.split(","):
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(allowed)}")
        return argument.split(",")
    return convert


def own_names(argument):
    """An argument type: methods of ether's program, separated by commas."""
    try:
        return [method for method in argument.split(",") if figures.label(method)]
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from None


def positive(kind):
    """An argument type: a number above 0."""
    def convert(argument):
        try:
            value = kind(argument)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"'{argument}' is not a positive number")
        return value
    return convert


def positives(argument):
    """An argument type: whole numbers above 0, separated by commas."""
    return [positive(int)(one) for one in argument.split(",")]


def default_threads():
    """As many as the C++ program takes by itself."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


def parse(description):
    parser = Parser(description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "bench/results/peers", metavar="DIR")
    add("--bench", type=Path, default=ROOT / "build/release/bench/ether_adapter_bench",
        metavar="PATH", help="ether's benchmark program")
    add("--bench-option", action="append", default=[], metavar="OPTION",
        help="one more argument for that program; may be repeated")
    add("--shapes", type=names(SHAPES), default=list(SHAPES), help=", ".join(SHAPES))
    add("--tokens", type=positives, help="1,16,128,512 unless named")
    add("--operations", type=names(OPERATIONS), default=list(OPERATIONS))
    add("--dtype", type=names(ours.TYPES), default=["float32"], help=", ".join(ours.TYPES))
    add("--methods", type=names(PEERS), default=list(PEERS), help="PEFT's: " + ", ".join(PEERS))
    add("--ours", type=own_names, default=list(OURS),
        help="ether's, as its program names them; unless named " + ",".join(OURS))
    add("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="auto: the CPU, and then a GPU where torch has one (PEFT's layers only)")
    add("--threads", type=positive(int), default=default_threads(),
        help="of the CPU; OMP_NUM_THREADS or all, unless named")
    add("--segments", type=positive(int), help="how often Python and the program take turns for "
        "each shape; 3 unless named")
    add("--rounds", type=positive(int), help="rounds of each segment; 15 unless named")
    add("--budget", type=positive(float), help="seconds for a method in one segment and "
        "case; a slower one takes part in fewer rounds; 2 unless named")
    add("--least-turn", type=positive(float), default=0.005, metavar="SECONDS",
        help="shorter calls are repeated for so long (default %(default)s)")
    add("--longest-call", type=positive(float), default=20, metavar="SECONDS",
        help="methods whose first call takes longer are left out (default %(default)s)")
    add("--quick", action="store_true", help="to try it out: tokens 1,128, 1 segment of 5 rounds")
    add("--self-test", action="store_true", help="test the arithmetic and nothing else; no torch")
    options = parser.parse_args()
    usual = {"tokens": [1, 16, 128, 512], "segments": 3, "rounds": 15, "budget": 2.0}
    quick = {"tokens": [1, 128], "segments": 1, "rounds": 5, "budget": 0.5}
    for name, value in (quick if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options
