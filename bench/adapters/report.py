#!/usr/bin/env python3
"""Tables and plots of ether_adapter_bench's results.

    bench/adapters/report.py RESULTS.json [MORE.json ...] [--products PRODUCTS.json] --out DIRECTORY

Repetitions of a benchmark, also from several files, are put together: of each of its figures the
median. Writes adapters.md; adapters.csv with all figures; and overhead_tokens, overhead_parameters
and merge as SVG and PNG. PRODUCTS.json: from ether_bench.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import figures  # noqa: E402
from adapter_results import MAIN, OPERATIONS, distinct, quotient, read, write_csv  # noqa: E402
from figures import label  # noqa: E402

FROZEN = {"merge": "copy", "prologue": "packing"}  # the first row of an operation's tables


def time_text(seconds):
    """Three digits with a unit."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= 0.9995 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.2g} µs"


def added_text(entry):
    """Added time and its standard error, in microseconds."""
    return f"{1e6 * entry['added_s']:,.0f} ± {1e6 * entry['added_error']:,.0f}"


def ratio_text(entry):
    """Ratio and its standard error, to two digits of the error, three places at most."""
    if entry is None:
        return "-"
    error = entry["ratio_error"]
    places = 3 if error < 0.1 else 2 if error < 1 else 1
    return f"{entry['ratio']:.{places}f} ± {error:.{places}f}"


def share_text(entry, lora):
    """Added time over LoRA's, and its standard error."""
    share = lora and quotient(entry["added_s"], entry["added_error"], lora["added_s"],
                              lora["added_error"])
    return f"{share[0]:.2f} ± {share[1]:.2f}" if share else "-"


def number(value):
    return f"{value:,.0f}"


def main_table(results):
    """All methods on the main shape at 128 tokens: the table that a reader decides by."""
    def get(operation, method, tokens=128):
        return results.get((operation, "float", MAIN, method, tokens))

    lora, lora_prologue = get("forward", "lora_r8"), get("prologue", "lora_r8")
    rows = []
    for method in distinct(results, "method", operation="forward", type="float", shape=MAIN):
        entry = get("forward", method)
        if entry is None:
            continue
        share = "1" if entry is lora else share_text(entry, lora)
        prologue = get("prologue", method)
        prologue_share = ("-" if not prologue else
                          "1" if prologue is lora_prologue else share_text(prologue, lora_prologue))
        rows.append([
            label(method), number(entry["parameters"]), number(entry["bytes"] / 1024),
            number(entry["flops"] / 128 / 1000), f"{entry['workspace'] / 2**20:.1f}",
            ratio_text(entry), added_text(entry), share,
            added_text(prologue) if prologue else "-", prologue_share,
            ratio_text(get("backward", method)), ratio_text(get("merge", method, None))])
    if not rows:
        return ""
    return "## W (4096, 4096), float, 128 tokens\n\n" + figures.markdown_table(
        ["method", "parameters", "KiB", "kFLOP per token", "workspace, MiB", "forward ÷ frozen",
         "added, µs", "÷ LoRA r=8's", "added before the product, µs", "÷ LoRA r=8's",
         "backward ÷ frozen", "merge ÷ copy"], rows) + "\n"


def lora_table(results):
    """The added time of each method over LoRA's, a column for each shape and type."""
    fixed = {"operation": "forward", "tokens": 128}
    places = [(kind, shape) for kind in distinct(results, "type", **fixed)
              for shape in distinct(results, "shape", type=kind, **fixed)]
    rows = []
    for method in distinct(results, "method", **fixed):
        if method.startswith("weight_space") or method == "lora_r8":
            continue
        row = [label(method)]
        for kind, shape in places:
            entry, lora = (results.get(("forward", kind, shape, name, 128))
                           for name in (method, "lora_r8"))
            row.append(share_text(entry, lora) if entry else "-")
        rows.append(row)
    return figures.markdown_table(
        ["", *(shape if kind == "float" else f"{shape}, {kind}" for kind, shape in places)], rows)


def weight_space_lines(results):
    """How much faster than in weight space a forward pass of one token is."""
    lines = []
    for kind in distinct(results, "type", operation="forward", shape=MAIN):
        for method in ("ether_n32", "ether_plus_n32"):
            ours, theirs = (results.get(("forward", kind, MAIN, prefix + method, 1))
                            for prefix in ("", "weight_space_"))
            faster = ours and theirs and quotient(theirs["ratio"], theirs["ratio_error"], ours["ratio"],
                                                  ours["ratio_error"])
            if faster:
                lines.append(f"{label(method)}, {kind}, 1 token: {faster[0]:.0f} ± {faster[1]:.0f} times "
                             "as fast as in weight space.")
    return "".join(f"* {line}\n" for line in lines)


def products_table(path):
    """Median times of ether_bench's products, and of the loop that only reads W."""
    times = defaultdict(list)
    try:
        for entry in json.loads(Path(path).read_text())["benchmarks"]:
            if entry.get("error_occurred"):
                raise ValueError(f"{entry['name']}: {entry['error_message']}")
            if entry["run_type"] == "iteration":
                times[entry["run_name"].removesuffix("/real_time")].append(entry["real_time"])
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {path}: {error}")
    return figures.markdown_table(
        ["W (4096, 4096)", "ms"],
        [[name, f"{statistics.median(times[name]):.3g}"]
         for name in sorted(times, key=lambda name: (name.split(":")[0], len(name), name))])


def full_tables(results):
    """One table for each operation, type and shape: ratios for each number of tokens."""
    text = []
    for operation, beside in OPERATIONS.items():
        for kind in distinct(results, "type", operation=operation):
            text.append(f"\n### {operation}, {kind}: time ÷ {beside}\n")
            for shape in distinct(results, "shape", operation=operation, type=kind):
                text.append("\n" + _shape_table(results, operation, kind, shape))
    return "".join(text)


def _shape_table(results, operation, kind, shape):
    fixed = {"operation": operation, "type": kind, "shape": shape}
    tokens = sorted(distinct(results, "tokens", **fixed), key=lambda t: t or 0)
    methods = distinct(results, "method", **fixed)
    header, frozen, rows = [shape], [FROZEN.get(operation, "frozen")], []
    for count in tokens:
        header.append("W'" if count is None else f"{count} token{'s' * (count > 1)}")
        times = [results[k]["frozen_s"] for k in results if k[:3] == (operation, kind, shape)
                 and k[4] == count]
        frozen.append(time_text(statistics.median(times)))
    for method in methods:
        rows.append([label(method)] + [
            ratio_text(results.get((operation, kind, shape, method, count))) for count in tokens])
    return figures.markdown_table(header, [frozen, *rows])


def plot_tokens(results, stem):
    """Added time of a forward pass, in per cent of the frozen product, against tokens."""
    if not distinct(results, "tokens", operation="forward", type="float", shape=MAIN):
        return []
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
                      yerr=[100 * e["ratio_error"] for e in entries], capsize=2,
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
    if not distinct(results, "method", operation="forward", type="float", shape=MAIN, tokens=128):
        return []
    fig, axes = figures.new_figure()
    families = defaultdict(list)
    for method in distinct(results, "method", operation="forward", type="float", shape=MAIN,
                           tokens=128):
        if not method.startswith(("weight_space", "ether_plus_s_kept")):
            entry = results[("forward", "float", MAIN, method, 128)]
            family, name = label(method).split()
            families[family].append((entry["parameters"], 100 * (entry["ratio"] - 1),
                                     100 * entry["ratio_error"], name))
    for family, points in families.items():
        # The number of blocks changes no parameter: side by side, so that they can be told apart.
        apart = [1.12 ** (i - 1) if family.startswith("ETHER") else 1 for i in range(len(points))]
        places = [p[0] * factor for p, factor in zip(points, apart)]
        axes.errorbar(places, [p[1] for p in points], yerr=[p[2] for p in points], capsize=2,
                      elinewidth=0.9, color=figures.colour(family), marker=figures.marker(family),
                      label=family, linestyle="none")
        for place, (_, added, _, name) in zip(places, points):
            axes.annotate(name, (place, added), textcoords="offset points", xytext=(3, 4),
                          fontsize=6)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="trainable parameters",
             ylabel="added time, % of the frozen product",
             title="Forward, 128 tokens, W (4096, 4096), float; bars: standard error")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figures.save(fig, stem)


def plot_merge(results, stem):
    """Bytes that a merge reads and writes per second, beside those of a copy of W."""
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
    axes.annotate("copy", (limit, -0.9), ha="center", va="bottom", fontsize=8,
                  annotation_clip=False)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="GB/s, reading W and writing W'", title="Merging, W (4096, 4096), float\n")
    return figures.save(fig, stem)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="JSON from ether_adapter_bench")
    parser.add_argument("--products", help="JSON from ether_bench")
    parser.add_argument("--out", required=True, help="directory for the tables and plots")
    options = parser.parse_args()
    context, results = read(options.results)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    head = (f"{figures.machine(int(context['threads']), context.get('commit'))}; "
            f"{context['compiler']}; Eigen {context['eigen']}; {context['date'][:10]}")
    products = f"## Products\n\n{products_table(options.products)}\n" if options.products else ""
    text = (f"# Adapters beside the frozen layer\n\n{head}.\n\nMedians of pairs of calls in turns ± "
            "their standard error; what each column is: [bench/README.md](../../README.md); times, "
            "bytes, FLOPs and workspace of every row: [adapters.csv](adapters.csv).\n\n"
            f"{main_table(results)}{weight_space_lines(results)}\n{products}"
            f"## Added time ÷ LoRA r=8's: forward, 128 tokens\n\n{lora_table(results)}\n"
            f"## All shapes\n{full_tables(results)}")
    (out / "adapters.md").write_text(text)
    write_csv(results, out / "adapters.csv")
    written = [out / "adapters.md", out / "adapters.csv"]
    written += plot_tokens(results, out / "overhead_tokens")
    written += plot_parameters(results, out / "overhead_parameters")
    written += plot_merge(results, out / "merge")
    print("\n".join(map(str, written)))


if __name__ == "__main__":
    main()
