"""Results of ether_adapter_bench: read, put together, named and ordered."""

import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import figures  # noqa: E402

OPERATIONS = {"forward": "the frozen product", "backward": "the product grad_y W",
              "merge": "a copy of W", "prologue": "packing x"}
MAIN = "llama-2-7b-attention"
SHAPES = [MAIN, "llama-2-7b-mlp-up", "llama-2-7b-mlp-down", "phi-1.5", "deberta-v3-base-ffn",
          "sd-1.5-320", "sd-1.5-640", "sd-1.5-1280"]
PLACES = ("operation", "type", "shape", "method", "tokens")
FIELDS = ("frozen_s", "method_s", "ratio", "added_s", "added_low", "added_high", "ratio_low",
          "ratio_high", "parameters", "bytes", "flops", "bytes_per_second", "workspace",
          "allocations")
COLUMNS = FIELDS + ("ratio_error", "added_error", "pairs")


def read(paths):
    """(context of the first file, {(operation, type, shape, method, tokens): {field: median}}).

    Repetitions of a benchmark, also from several files, are put together: of each field the
    median, and ratio_error and added_error, the standard errors of ratio and added_s. tokens is
    None for merge. Ends the program, with a sentence, where a file is not such a result."""
    context, files = None, defaultdict(lambda: defaultdict(list))
    for path in paths:
        try:
            content = json.loads(Path(path).read_text())
            context = context or content["context"]
            for entry in content["benchmarks"]:
                if entry.get("run_type") == "iteration":
                    _check(entry)
                    files[_key(entry["run_name"])][path].append(entry)
        except (OSError, KeyError, ValueError) as error:
            sys.exit(f"{Path(sys.argv[0]).name}: {path}: {error}")
    if not files:
        sys.exit(f"{Path(sys.argv[0]).name}: no benchmarks in {', '.join(map(str, paths))}")
    return context, {key: _together(list(files[key].values())) for key in sorted(files, key=_order)}


def distinct(results, place, **fixed):
    """The values at `place`, one of PLACES, of the keys where other places have fixed values."""
    return list(dict.fromkeys(
        key[PLACES.index(place)] for key in results
        if all(key[PLACES.index(name)] == value for name, value in fixed.items())))


def _together(files):
    """One entry of all repetitions. A file is a process, which has its data at other addresses than
    the next: with three or more, the error is from their medians, not from the repetitions'."""
    entries = [entry for repetitions in files for entry in repetitions]
    groups = files if len(files) > 2 else [[entry] for entry in entries]
    result = {field: statistics.median(entry[field] for entry in entries)
              for field in FIELDS if all(field in entry for entry in entries)}
    result["pairs"] = sum(entry["iterations"] for entry in entries)
    for error, median, stem in (("added_error", "added_s", "added"),
                                ("ratio_error", "ratio", "ratio")):
        medians = [statistics.median(entry[median] for entry in group) for group in groups]
        result[error] = figures.pooled_error(result[stem + "_low"], result[stem + "_high"],
                                             result["pairs"], medians)
    return result


def quotient(a, a_error, b, b_error):
    """(a / b, its standard error), of independent a and b; None where b is within four errors of 0,
    since what is added to it then is no small part of b."""
    if not abs(b) > 4 * b_error:
        return None
    return a / b, math.hypot(a_error, a / b * b_error) / abs(b)


def write_csv(results, path):
    """Every result: seconds, bytes, FLOPs of a call; an empty cell where a field has no meaning."""
    lines = [(*PLACES, *COLUMNS)]
    for key, entry in results.items():
        values = [_cell(entry[field]) if field in entry else "" for field in COLUMNS]
        lines.append(("" if part is None else part for part in (*key, *values)))
    Path(path).write_text("".join(",".join(map(str, line)) + "\n" for line in lines))


def _cell(value):
    """Six digits; of a whole number all."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.6g}"


def _check(entry):
    if entry.get("error_occurred"):
        raise ValueError(f"{entry['name']}: {entry['error_message']}")
    if not (math.isfinite(entry["ratio"]) and entry["ratio"] > 0):
        raise ValueError(f"{entry['name']} has the ratio {entry['ratio']}")


def _key(name):
    parts = [part for part in name.split("/") if part != "manual_time"]
    tokens = None
    if parts[-1].startswith("tokens:"):
        tokens = int(parts.pop().split(":")[1])
    if len(parts) != 4 or parts[0] not in OPERATIONS or parts[2] not in SHAPES:
        raise ValueError(f"{name!r} is not operation/type/shape/method/tokens:T")
    figures.label(parts[3])
    return (*parts, tokens)


def _order(key):
    operation, kind, shape, method, tokens = key
    return (list(OPERATIONS).index(operation), kind != "float", SHAPES.index(shape),
            *figures.order(method), tokens or 0)
