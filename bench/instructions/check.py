#!/usr/bin/env python3
"""Has a workload come to need more instructions? Fails on counts, which repeat, never on time.

    bench/instructions/check.py build/release/bench/instructions/ether_instructions [--record]

Runs every workload of the program under valgrind's callgrind, on one thread, and compares the
instructions of each with expected.json beside this file, which has a list of counts for each set of
versions (`ether_instructions --versions`): another compiler or Eigen counts otherwise.

More than LIMIT above is a failure. More than LIMIT below is said: --record then writes all counts
of these versions to expected.json, to be committed with the change that explains them. --repeat
shows how far N counts of one workload lie apart. The last column is counts per element of the
matrix, adapter or file.

Exit status: 0 none above, 1 some above (or not in the list, or not counted), 2 bad input, 77 where
there is nothing to compare with: no valgrind, no counts for these versions, a CPU without AVX2.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 0.01  # relative; see bench/README.md for what repeats how well
SKIPPED = 77
EXPECTED = Path(__file__).resolve().parent / "expected.json"


class Failed(Exception):
    """Ends the check: (exit status, sentence)."""


def run(command, what):
    """stdout of `command`. Its environment is small and always the same."""
    kept = ("PATH", "TMPDIR", "VALGRIND_LIB")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode == SKIPPED:
        raise Failed(SKIPPED, done.stdout.strip())
    if done.returncode != 0:
        raise Failed(1, f"{what} has ended with status {done.returncode}:\n{done.stdout.strip()}")
    return done.stdout


def count(valgrind, program, name):
    """The instructions of one workload, all functions that it calls included."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "callgrind"
        run([valgrind, "--command-line-only=yes", "--quiet", "--tool=callgrind",
             "--instr-atstart=no", f"--callgrind-out-file={out}", program, "--run", name],
            f"callgrind of '{name}'")
        total = re.search(r"^totals: (\d+)$", out.read_text() if out.exists() else "", re.M)
    if total is None or int(total.group(1)) == 0:
        raise Failed(1, f"callgrind has counted no instructions of '{name}'")
    return int(total.group(1))


def read_expected(path):
    """{versions: {workload: count}}"""
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failed(2, f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Failed(2, f"{path} is not JSON: {error}") from error
    if not (isinstance(expected, dict) and all(
            isinstance(counts, dict) and all(type(n) is int and n > 0 for n in counts.values())
            for counts in expected.values())):
        raise Failed(2, f"{path} is not {{versions: {{workload: count}}}}, whole and above 0")
    return expected


def print_table(elements, counts, expected):
    width = max(map(len, counts))
    print(f"{'':{width}} {'counted':>10} {'expected':>10} {'difference':>10} {'per element':>11}")
    for name, (low, _) in counts.items():
        known = expected.get(name)
        difference = f"{100 * (low / known - 1):+.2f} %" if known else "?"
        print(f"{name:{width}} {low:>10} {known or '?':>10} {difference:>10} "
              f"{low / elements[name]:>11.2f}")


def judge(counts, expected):
    """Sentences on failures, and on counts that have become lower."""
    failures = [f"'{name}' is expected, but is no workload" for name in expected.keys() - counts]
    lower = []
    for name, (low, high) in counts.items():
        if name not in expected:
            failures.append(f"'{name}' has no expected count")
        elif high > expected[name] * (1 + LIMIT):
            failures.append(f"'{name}' needs {high / expected[name]:.3f} times the instructions")
        elif low < expected[name] * (1 - LIMIT):
            lower.append(f"'{name}' needs {low / expected[name]:.3f} times the instructions")
    return failures, lower


def check(options):
    """Counts, prints, compares; returns the exit status. Throws Failed."""
    if not os.access(options.program, os.X_OK):
        raise Failed(2, f"{options.program} is not a program")
    program = os.path.abspath(options.program)
    valgrind = shutil.which(options.valgrind)
    if valgrind is None:
        raise Failed(SKIPPED, f"{options.valgrind} is not here. On Debian and Ubuntu: "
                              "apt-get install valgrind")
    versions = run([program, "--versions"], program).strip()
    everything = read_expected(options.expected)
    elements = {}
    for line in run([program, "--list"], program).splitlines():
        name, number = line.rsplit(" ", 1)
        elements[name] = int(number)
    counts = {}
    for name in elements:
        several = [count(valgrind, program, name) for _ in range(options.repeat)]
        counts[name] = min(several), max(several)
    print(versions)
    known = everything.get(versions, {})
    print_table(elements, counts, known)
    if options.repeat > 1:
        spread = max(high / low - 1 for low, high in counts.values())
        print(f"\nLargest difference between {options.repeat} counts of one workload: "
              f"{100 * spread:.4f} %")

    if options.record:
        everything[versions] = {name: low for name, (low, _) in counts.items()}
        options.expected.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n",
                                    encoding="utf-8")
        print(f"\nRecorded in {options.expected}")
        return 0
    if not known:
        raise Failed(SKIPPED, "no counts are recorded for these versions; --record does it, from a "
                              "commit that is known to be good")
    failures, lower = judge(counts, known)
    print()
    for sentence in failures:
        print(f"FAILED: {sentence}")
    for sentence in lower:
        print(f"Lower: {sentence}; record it: --record")
    if not failures:
        print(f"No workload needs {100 * LIMIT:g} % more instructions than expected")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="ether_instructions")
    parser.add_argument("--record", action="store_true", help="write the counts to expected.json")
    parser.add_argument("--repeat", type=int, choices=range(1, 101), default=1, metavar="N",
                        help="count every workload N times")
    parser.add_argument("--expected", type=Path, default=EXPECTED, metavar="FILE",
                        help="another expected.json")
    parser.add_argument("--valgrind", default="valgrind", help="its path or name")
    try:
        return check(parser.parse_args())
    except Failed as failed:
        status, sentence = failed.args
        print(f"check.py: {'skipped: ' if status == SKIPPED else ''}{sentence}", file=sys.stderr)
        return status


if __name__ == "__main__":
    sys.exit(main())
