"""The tables of llama_cpp.py, from what the program printed."""

import csv
import datetime
import statistics
import sys
from pathlib import Path

import hook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import figures  # noqa: E402

LEAST_SHARE = 0.95  # of the threads' time that the process must have had in every turn of a round


def read(printed):
    return list(csv.DictReader(printed.splitlines()))


def whole_rounds(rows):
    """([{label: us per token} of each round that had its cores], how many had not). A virtual machine
    loses cores at times, and whoever has its turn then would look slow."""
    rounds, lost = {}, set()
    for row in rows:
        number = row["process"], row["round"]
        rounds.setdefault(number, {})[row["label"]] = float(row["us_per_token"])
        if not float(row["cores"]) >= LEAST_SHARE:
            lost.add(number)
    return [times for number, times in rounds.items() if number not in lost], len(lost)


def times_table(rounds, labels):
    """Medians over the rounds; ratios are taken within a round."""
    rows = []
    for label in labels:
        ratios = [times[label] / times["base"] for times in rounds]
        added = statistics.median(times[label] - times["base"] for times in rounds)
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        rows.append([label, f"{statistics.median(t[label] for t in rounds) / 1e3:.3f}",
                     f"{added / 1e3:.3f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"])
    return figures.markdown_table(
        ["adapter", "ms per token", "added, ms", "ratio to base", "quartiles"], rows)


def distances_table(distances):
    return figures.markdown_table(
        ["adapter", "computed with", "distance", "must be"],
        [[label, what, f"{distance:.1e}", "far" if far else "near"]
         for label, what, distance, far in distances])


def report(printed, labels, distances, options, facts):
    """The text of llama_cpp.md. Raises Failure where fewer than two rounds had their cores."""
    rounds, lost = whole_rounds(read(printed))
    if len(rounds) < 2:
        raise hook.Failure(f"in {lost} of {lost + len(rounds)} rounds the threads did not have their "
                           "cores; run it again with other work stopped, or with fewer threads")
    date = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    lines = [figures.machine(options.threads), *facts,
             f"{len(rounds)} rounds of {len(rounds) + lost}, in {options.processes} processes; in the others "
             f"the threads had less than {LEAST_SHARE:.0%} of their cores", date]
    return "\n".join([
        "# ETHER in llama.cpp\n", *(f"* {line}" for line in lines),
        "\n## Decoding\n", times_table(rounds, labels),
        "## Distance to the merged model\n",
        "|a - b| / |b| of the logits of a prompt and of tokens decoded behind it; float32.\n",
        distances_table(distances)])
