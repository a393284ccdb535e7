#!/usr/bin/env python3
"""Tables and plots of ether_adapter_bench's results.

    bench/adapters/report.py RESULTS.json [MORE.json ...] --out DIRECTORY

Repetitions of a benchmark, also from several files, are put together: of each of its figures the
median. Writes adapters.md, and overhead_tokens, overhead_parameters and merge as SVG and PNG.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import figures  # noqa: E402
from adapter_results import MAIN, OPERATIONS, distinct, read  # noqa: E402
from figures import label  # noqa: E402


def time_text(seconds):
    """Three digits with a unit."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= 0.9995 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.2g} µs"


def added_text(entry):
    """Added time and its standard error, in microseconds."""
    return f"{1e6 * entry['added_s']:,.0f} ± {1e6 * entry['added_error']:,.0f}"


def number(value):
    return f"{value:,.0f}"


def main_table(results):
    """All methods on the main shape at 128 tokens: the table that a reader decides by."""
    def get(operation, method, field, tokens=128):
        entry = results.get((operation, "float", MAIN, method, tokens))
        return None if entry is None else entry[field]

    rows = []
    for method in distinct(results, "method", operation="forward", type="float", shape=MAIN):
        entry = results.get(("forward", "float", MAIN, method, 128))
        if entry is None:
            continue
        backward = get("backward", method, "ratio")
        merge = get("merge", method, "ratio", None)
        rows.append([
            label(method), number(entry["parameters"]), number(entry["flops"] / 128 / 1000),
            f"{entry['ratio']:.3f}", added_text(entry),
            f"{backward:.3f}" if backward else "-", f"{merge:.2f}" if merge else "-"])
    return figures.markdown_table(
        ["method", "parameters", "kFLOP per token", "forward ÷ frozen", "added, µs",
         "backward ÷ frozen", "merge ÷ copy"], rows)


def goal_lines(results):
    """The figures that the comparison is about, in sentences."""
    def entry(method, tokens):
        return results.get(("forward", "float", MAIN, method, tokens))

    lines = []
    lora = entry("lora_r8", 128)
    for method in ("ether_n1", "ether_n32", "ether_plus_n1", "ether_plus_n32"):
        if lora and entry(method, 128):
            lines.append(f"{label(method)}, 128 tokens: adds {added_text(entry(method, 128))} µs, "
                         f"LoRA r=8 {added_text(lora)} µs.")
    for ours, theirs in (("ether_n32", "weight_space_ether_n32"),
                         ("ether_plus_n32", "weight_space_ether_plus_n32")):
        if entry(ours, 1) and entry(theirs, 1):
            times = entry(theirs, 1)["method_s"] / entry(ours, 1)["method_s"]
            lines.append(f"{label(ours)}, 1 token: {times:.0f} times as fast as in weight space.")
    return "".join(f"* {line}\n" for line in lines)


def full_tables(results):
    """One table for each operation, type and shape: ratios, and added times, for each number of
    tokens."""
    text = []
    for operation, beside in OPERATIONS.items():
        for kind in distinct(results, "type", operation=operation):
            text.append(f"\n### {operation}, {kind}: time ÷ {beside}, and added time\n")
            for shape in distinct(results, "shape", operation=operation, type=kind):
                text.append("\n" + _shape_table(results, operation, kind, shape))
    return "".join(text)


def _shape_table(results, operation, kind, shape):
    fixed = {"operation": operation, "type": kind, "shape": shape}
    tokens = sorted(distinct(results, "tokens", **fixed), key=lambda t: t or 0)
    methods = distinct(results, "method", **fixed)
    header, frozen, rows = [shape], ["frozen" if operation != "merge" else "copy"], []
    for count in tokens:
        header.append("W'" if count is None else f"{count} token{'s' * (count > 1)}")
        times = [results[k]["frozen_s"] for k in results if k[:3] == (operation, kind, shape)
                 and k[4] == count]
        frozen.append(time_text(statistics.median(times)))
    for method in methods:
        row = [label(method)]
        for count in tokens:
            e = results.get((operation, kind, shape, method, count))
            row.append("-" if e is None else f"{e['ratio']:.3f} ({time_text(e['added_s'])})")
        rows.append(row)
    return figures.markdown_table(header, [frozen, *rows])


def plot_tokens(results, stem):
    """Added time of a forward pass, in per cent of the frozen product, against tokens."""
    fig, axes = figures.new_figure()
    methods = ("ether_n32", "ether_plus_n32", "lora_r8", "oft_b32", "hra_r8",
               "weight_space_ether_plus_n32")
    for place, method in enumerate(methods):
        tokens = sorted(distinct(results, "tokens", operation="forward", type="float", shape=MAIN,
                                 method=method))
        entries = [results[("forward", "float", MAIN, method, t)] for t in tokens]
        if not entries:
            continue
        apart = 1.07 ** (place - len(methods) / 2)  # so that the bars can be told apart
        axes.errorbar([t * apart for t in tokens], [100 * (e["ratio"] - 1) for e in entries],
                      yerr=[100 * e["added_error"] / e["frozen_s"] for e in entries], capsize=2,
                      elinewidth=0.9, color=figures.colour(label(method)),
                      marker=figures.marker(label(method)), label=label(method))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="tokens", ylabel="added time, % of the frozen product",
             title="Forward, W (4096, 4096), float; bars: standard error")
    axes.set_yscale("symlog", linthresh=5)
    axes.set_ylim(-6, 10000)
    axes.set_yticks([-5, 0, 5, 10, 100, 1000], ["-5", "0", "5", "10", "100", "1000"])
    axes.set_xticks([1, 16, 128, 512], ["1", "16", "128", "512"])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figures.save(fig, stem)


def plot_parameters(results, stem):
    """Added time of a forward pass, in per cent of the frozen product, against parameters."""
    fig, axes = figures.new_figure()
    families = defaultdict(list)
    for method in distinct(results, "method", operation="forward", type="float", shape=MAIN,
                           tokens=128):
        if not method.startswith(("weight_space", "ether_plus_s_kept")):
            entry = results[("forward", "float", MAIN, method, 128)]
            families[label(method).split()[0]].append(
                (entry["parameters"], 100 * (entry["ratio"] - 1), label(method).split()[1]))
    for family, points in families.items():
        axes.plot([p for p, _, _ in points], [r for _, r, _ in points],
                  color=figures.colour(family), marker=figures.marker(family), label=family,
                  linestyle="none" if family.startswith("ETHER") else "-")
        for parameters, ratio, name in points:
            if not family.startswith("ETHER"):
                axes.annotate(name, (parameters, ratio), textcoords="offset points",
                              xytext=(4, 4), fontsize=7)
    axes.set(xscale="log", xlabel="trainable parameters",
             ylabel="added time, % of the frozen product",
             title="Forward, 128 tokens, W (4096, 4096), float")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figures.save(fig, stem)


def plot_merge(results, stem):
    """Bytes that a merge reads and writes per second, beside memcpy's."""
    methods = [m for m in distinct(results, "method", operation="merge", type="float", shape=MAIN)
               if not m.startswith("weight_space")]
    if not methods:
        return []
    fig, axes = figures.new_figure(height=0.28 * len(methods) + 1.1)
    entries = [results[("merge", "float", MAIN, m, None)] for m in methods]
    speeds = [e["bytes_per_second"] / 1e9 for e in entries]
    limit = statistics.median(e["bytes_per_second"] / 1e9 * e["ratio"] for e in entries)
    axes.barh([label(m) for m in methods], speeds, height=0.6,
              color=[figures.colour(label(m)) for m in methods])
    axes.axvline(limit, color="black", linestyle="--", linewidth=1)
    axes.annotate("memcpy", (limit, -0.9), ha="center", va="bottom", fontsize=8,
                  annotation_clip=False)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="GB/s, reading W and writing W'", title="Merging, W (4096, 4096), float\n")
    return figures.save(fig, stem)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="JSON from ether_adapter_bench")
    parser.add_argument("--out", required=True, help="directory for the tables and plots")
    options = parser.parse_args()
    context, results = read(options.results)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    head = (f"{figures.machine(int(context['threads']))}; {context['compiler']}; Eigen "
            f"{context['eigen']}; {context['date'][:10]}")
    text = (f"# Adapters beside the frozen layer\n\n{head}.\n\nMedians of pairs of calls in turns; "
            "what each column is: [bench/README.md](../../README.md).\n\n"
            f"## W (4096, 4096), float, 128 tokens\n\n{main_table(results)}\n"
            f"{goal_lines(results)}\n## Everything\n{full_tables(results)}")
    (out / "adapters.md").write_text(text)
    written = [out / "adapters.md"]
    written += plot_tokens(results, out / "overhead_tokens")
    written += plot_parameters(results, out / "overhead_parameters")
    written += plot_merge(results, out / "merge")
    print("\n".join(map(str, written)))


if __name__ == "__main__":
    main()
