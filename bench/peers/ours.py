"""Runs the C++ program `ether_adapter_bench` and reads its JSON. Needs nothing but Python."""

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import paired
from paired import figures

FIELDS = ("frozen_s", "method_s", "ratio", "added_s", "added_low", "added_high", "parameters",
          "iterations")
TYPES = {"float32": "float", "bfloat16": "bfloat16"}


class Failure(Exception):
    """What ends the run: a sentence that says which program failed or which result is wrong."""


def pattern(operations, dtype, shape, methods, tokens):
    """The regular expression of the benchmarks wanted: OPERATION/TYPE/SHAPE/METHOD/tokens:T."""
    def any_of(words):
        return "(" + "|".join(str(word).replace(".", "[.]") for word in words) + ")"

    return (f"^{any_of(operations)}/{TYPES[dtype]}/{any_of([shape])}/{any_of(methods)}"
            f"/tokens:{any_of(tokens)}(/|$)")


def run(program, expression, threads, more=()):
    """The program's JSON; {} where it has no such benchmark."""
    with tempfile.TemporaryDirectory(prefix="ether-") as directory:
        path = Path(directory) / "out.json"
        command = [str(program), f"--benchmark_filter={expression}", f"--benchmark_out={path}",
                   "--benchmark_out_format=json", *more]
        try:
            done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                                  capture_output=True, text=True)
        except OSError as error:
            raise Failure(f"cannot run {program}: {error.strerror}") from None
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise Failure(f"{program} ended with status {done.returncode}: {last}")
        text = path.read_text() if path.exists() else ""
    try:
        return json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise Failure(f"{program} wrote JSON that cannot be read: {error}") from None


def read(document):
    """{(operation, shape, tokens, method): [one dict of FIELDS for each repetition]}."""
    found = {}
    for entry in document.get("benchmarks", []):
        if entry.get("run_type", "iteration") != "iteration":
            continue
        if entry.get("error_occurred"):
            raise Failure(f"{entry['name']}: {entry.get('error_message', 'no message')}")
        operation, _, shape, method, tokens = entry["name"].split("/")[:5]
        absent = [field for field in FIELDS if field not in entry]
        if absent:
            raise Failure(f"{entry['name']} lacks {', '.join(absent)}")
        key = operation, shape, int(tokens.removeprefix("tokens:")), method
        found.setdefault(key, []).append({field: entry[field] for field in FIELDS})
    return found


def combine(repetitions):
    """One result of several: the median of every field; "rounds", the number of pairs, and
    "added_error", the standard error of added_s.

    The quartiles of the added time are no closer than those of its medians over the repetitions,
    since a repetition may be a single pair.
    """
    result = {field: statistics.median(one[field] for one in repetitions) for field in FIELDS}
    added = [one["added_s"] for one in repetitions]
    result["added_low"] = min(result["added_low"], paired.quantile(added, 0.25))
    result["added_high"] = max(result["added_high"], paired.quantile(added, 0.75))
    rounds = int(sum(one["iterations"] for one in repetitions))
    error = figures.pooled_error(result["added_low"], result["added_high"], rounds, added)
    return {**result, "parameters": int(result["parameters"]), "repeated": len(repetitions),
            "rounds": rounds, "added_error": error}
