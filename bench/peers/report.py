"""The report: Markdown tables and a plot of the results of one device and type."""

import math
import sys
from pathlib import Path

import paired

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import figures  # noqa: E402

DRAWN = (("ether", "ether_n32"), ("ether", "ether_plus_n32"), ("PEFT", "lora_r8"),
         ("PEFT", "oft_b32"), ("PEFT", "hra_r8"))
LEAST_SHARE = 1e-4  # the plot's lowest line: what is below is drawn there

EXPLANATION = """\
Each cell is the median over shapes and tokens of (ratio - 1) of ours over (ratio - 1) of PEFT's,
each ratio to its own frozen layer; in brackets the largest, and how many of the cases are below 1.
Where our own added time is no more than twice its standard error, added time and two errors stand
for it, an upper bound; what may be less because of such a case has "<" before it. A case whose
denominator is within noise is in none of the three, but counted as noise.

"""


def milliseconds(seconds):
    return f"{1e3 * seconds:.4g}"


def gflops(result):
    """The rate of the frozen layer, 2 in out operations for each token."""
    return 2e-9 * result["tokens"] * result["out"] * result["in"] / result["frozen_s"]


def case(result):
    return result["operation"], result["shape"], result["tokens"]


def of(results, **wanted):
    """The results whose fields are the wanted ones."""
    return [r for r in results if all(r[field] == value for field, value in wanted.items())]


def distinct(results, field):
    """The values of a field in the order of their first appearance."""
    return list(dict.fromkeys(r[field] for r in results))


def times_table(results):
    """One row for each result; times in milliseconds, the frozen layer's rate in GFLOP/s."""
    rows = []
    for r in sorted(results, key=lambda r: (r["tokens"], *(
            (0, r["label"]) if r["library"] == "PEFT" else (1, figures.order(r["method"]))))):
        quartiles = f"{milliseconds(r['added_low'])} to {milliseconds(r['added_high'])}"
        rows.append([f"{r['library']} {r['label']}", r["tokens"], milliseconds(r["frozen_s"]),
                     f"{gflops(r):.3g}", milliseconds(r["method_s"]),
                     f"{r['ratio']:.3f}", milliseconds(r["added_s"]), quartiles])
    header = ["layer", "tokens", "own frozen layer, ms", "GFLOP/s", "layer, ms", "ratio",
              "added, ms", "quartiles"]
    return figures.markdown_table(header, rows)


def comparisons(results, ours, peer, seconds=False):
    """[(bound, value)] of two methods over all cases in which both were timed."""
    peers = {case(r): r for r in of(results, library="PEFT", method=peer)}
    return [paired.compare(r, peers[case(r)], seconds)
            for r in of(results, library="ether", method=ours) if case(r) in peers]


def overview_cell(pairs):
    """"median (largest; below 1 in k of n)", "<" before upper bounds, and how many denominators are within noise."""
    if not pairs:
        return "not timed"
    seen = paired.overview(pairs)
    noise = f"; noise: {seen['noise']}" if seen["noise"] else ""
    if not seen["count"]:
        return "all noise"
    median, largest = (f"{'< ' * bound}{seen[name]:.2g}"
                       for name, bound in zip(("median", "largest"), seen["bounds"]))
    return f"{median} ({largest}; {seen['below_1']} of {seen['count']}{noise})"


def overview_table(results, seconds=False):
    """A row for each operation and ETHER of ours, a column for each method of PEFT's."""
    peers = distinct(of(results, library="PEFT"), "method")
    labels = {r["method"]: r["label"] for r in of(results, library="PEFT")}
    rows = []
    for operation in distinct(results, "operation"):
        timed = of(results, operation=operation)
        for ours in own_methods(timed):
            rows.append([f"{operation}, {of(timed, library='ether', method=ours)[0]['label']}"]
                        + [overview_cell(comparisons(timed, ours, peer, seconds))
                           for peer in peers])
    return figures.markdown_table(["ours / PEFT's"] + [labels[peer] for peer in peers], rows)


def own_methods(results):
    """The ETHER and ETHER+ adapters among ether's results; not the baselines timed beside them."""
    found = [m for m in distinct(of(results, library="ether"), "method") if m.startswith("ether")]
    return sorted(found, key=figures.order)


def overview_text(results):
    """The summary with its explanation, or why there is none."""
    if not own_methods(results) or not of(results, library="PEFT"):
        return "No summary: it needs both PEFT's layers and ether_adapter_bench.\n"
    return (rates_text(results) + EXPLANATION + overview_table(results)
            + "\nThe same of added seconds, where a slow frozen layer hides nothing:\n\n"
            + overview_table(results, seconds=True))


def rates_text(results):
    """How fast the frozen layers are at best: the denominators of all ratios."""
    best = {library: max(gflops(r) for r in of(results, library=library))
            for library in distinct(results, "library")}
    return ("Frozen layers at their fastest: "
            + ", ".join(f"{library}'s {rate:.0f} GFLOP/s" for library, rate in best.items())
            + ". Where one is far behind the\nother, its ratios hide what its adapters cost.\n\n")


def text(title, lines, results, left_out):
    """The whole report in Markdown."""
    parts = [f"# {title}\n", *(f"* {line}" for line in lines), "",
             "## Summary\n", overview_text(results)]
    if left_out:
        parts += ["Left out, since one call takes, or would take, longer than --longest-call:\n"]
        parts += [f"* {o}, {shape}, PEFT {label}: {took:.1f} s"
                  for (o, shape, label), took in left_out.items()] + [""]
    for operation in distinct(results, "operation"):
        for shape in distinct(of(results, operation=operation), "shape"):
            timed = of(results, operation=operation, shape=shape)
            parts += [f"## {operation}, {shape} ({timed[0]['out']}, {timed[0]['in']})\n",
                      times_table(timed)]
    return "\n".join(parts)


def plot(stem, results, operation, title):
    """A panel for each shape: added time over the own frozen layer's, ours solid, PEFT's dashed."""
    timed = of(results, operation=operation)
    shapes = distinct(timed, "shape")
    columns = min(len(shapes), 4)
    rows = math.ceil(len(shapes) / columns)
    figure, axes = figures.new_figure(columns, rows, width=3.4, height=2.9, squeeze=False,
                                      sharey=True)
    for panel in axes.flat[len(shapes):]:
        panel.set_visible(False)
    for panel, shape in zip(axes.flat, shapes):
        draw_panel(panel, of(timed, shape=shape))
        panel.set_title(f"{shape} ({size_of(timed, shape)})", fontsize=8.5)
    for row in axes:
        row[0].set_ylabel("added time / own frozen layer")
    legend = {line.get_label(): line for panel in axes.flat for line in panel.get_lines()
              if not line.get_label().startswith("_")}
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    figure.suptitle(f"{operation}: {title}; hollow: upper bounds", y=1.0, fontsize=10)
    figure.legend(legend.values(), legend.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.0),
                  ncol=len(legend) if columns > 2 else 3)
    return figures.save(figure, stem)


def size_of(results, shape):
    first = of(results, shape=shape)[0]
    return f"{first['out']}, {first['in']}"


def draw_panel(panel, results):
    """One line for each of DRAWN; where the added time is within noise, hollow, its upper bound."""
    for library, method in DRAWN:
        line = sorted(of(results, library=library, method=method), key=lambda r: r["tokens"])
        if not line:
            continue
        label = line[0]["label"]
        style = {"color": figures.colour(label), "marker": figures.marker(label)}
        told = [r for r in line if not paired.within_noise(r)]
        panel.plot([r["tokens"] for r in told], [max(paired.added(r), LEAST_SHARE) for r in told],
                   "-" if library == "ether" else "--", label=f"{library} {label}", **style)
        bounds = [r for r in line if paired.within_noise(r)]
        panel.plot([r["tokens"] for r in bounds],
                   [max(paired.upper(r), LEAST_SHARE) for r in bounds], linestyle="",
                   markerfacecolor="white", zorder=3, **style)
    tokens = sorted(distinct(results, "tokens"))
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(tokens, [str(t) for t in tokens])
    panel.axhline(1, color="#555555", linewidth=0.7)
    panel.set_xlabel("tokens")
