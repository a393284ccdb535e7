"""Tables and plots of all benchmarks: one look, the same colours for the same methods.

Needs matplotlib for plots only (Debian and Ubuntu: python3-matplotlib).
"""

import math
import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

# Okabe and Ito's palette, which colour-blind readers can tell apart; one entry for each method.
COLOURS = {
    "frozen": "#7f7f7f",
    "ETHER": "#0072b2",
    "ETHER+": "#009e73",
    "LoRA": "#d55e00",
    "OFT": "#cc79a7",
    "HRA": "#e69f00",
    "full": "#000000",
    "weight space": "#56b4e9",
}
MARKERS = {"frozen": "x", "ETHER": "o", "ETHER+": "s", "LoRA": "^", "OFT": "D", "HRA": "v",
           "full": "P", "weight space": "*"}
# What ether_adapter_bench calls them, in the order of tables; a number follows.
LABELS = {"ether_n": "ETHER n=", "ether_plus_n": "ETHER+ n=",
          "ether_plus_s_kept_n": "ETHER+, s kept, n=", "lora_r": "LoRA r=", "oft_b": "OFT b=",
          "hra_r": "HRA r=", "weight_space_ether_n": "weight space, ETHER n=",
          "weight_space_ether_plus_n": "weight space, ETHER+ n="}


def label(method):
    """ether_plus_n32 -> ETHER+ n=32, as plots and tables call it. ValueError for no such method."""
    stem = method.rstrip("0123456789")
    if stem not in LABELS or stem == method:
        raise ValueError(f"'{method}' is no method like ether_n32 or lora_r8")
    return LABELS[stem] + method[len(stem):]


def order(method):
    """The place of ether_plus_n32 in tables, to sort by."""
    stem = method.rstrip("0123456789")
    return list(LABELS).index(stem), int(method[len(stem):])


def colour(label):
    """The colour of a method whose label begins with a name in COLOURS, as in "LoRA r=8"."""
    return COLOURS[_method(label)]


def marker(label):
    return MARKERS[_method(label)]


def _method(label):
    fitting = [name for name in COLOURS if label.startswith(name)]
    if not fitting:
        raise KeyError(f"no colour for {label!r}; the methods are {', '.join(COLOURS)}")
    return max(fitting, key=len)


def processor():
    """The processor's name, as the system gives it."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        return names[0].strip() if names else platform.processor()
    except OSError:
        return platform.processor() or platform.machine()


def machine(threads=None, measured=None):
    """One line for the head of a table: processor, threads, system, and the commit: `measured` or,
    where that is not known, the present one."""
    threads = threads or len(os.sched_getaffinity(0))
    at = f", commit {measured}" if measured else commit()
    return f"{processor()}, {threads} threads, {platform.system()}{at}"


def commit():
    """", commit X" of the sources, and whether they have been changed since; "" without git."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=Path(__file__).resolve().parents[1],
                              capture_output=True, text=True, check=False)

    try:
        described = git("describe", "--always")
        changed = git("diff", "--quiet", "HEAD", "--", ".", ":!bench/results").returncode
    except OSError:  # no git
        return ""
    if described.returncode != 0:
        return ""
    return f", commit {described.stdout.strip()}{' and changes' if changed else ''}"


def median_error(low, high, count):
    """The standard error of a median of `count` values with these quartiles. As for normal noise:
    1.25 sigma / sqrt(count) with sigma = (high - low) / 1.35; of one value, infinite."""
    return 1.25 * (high - low) / 1.35 / math.sqrt(count) if count > 1 else math.inf


def pooled_error(low, high, count, medians):
    """The same of `count` values in repetitions with these medians: what differs between repetitions
    may be more than their quartiles show, so the larger one of both. Of eight medians or more the
    quartiles are taken, since one that lies far off, and does not move their median, would else
    decide."""
    if len(medians) < 2:
        return math.inf
    if len(medians) < 8:
        between = 1.25 * statistics.stdev(medians) / math.sqrt(len(medians))
    else:
        first, _, third = statistics.quantiles(medians, n=4, method="inclusive")
        between = median_error(first, third, len(medians))
    return max(median_error(low, high, count), between)


def markdown_table(header, rows):
    """`rows` of strings under `header`; the first column left, all others right."""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header {len(header)}")
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def new_figure(columns=1, rows=1, width=5.2, height=3.6, **options):
    """(figure, axes) as pyplot.subplots gives them, in the common style."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "font.size": 9, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "legend.frameon": False, "lines.markersize": 4.5, "lines.linewidth": 1.4,
        "svg.fonttype": "none", "svg.hashsalt": "ether", "savefig.bbox": "tight",
    })
    return pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), **options)


def save(figure, stem):
    """Writes stem.svg and stem.png, without a date in them; returns the two paths."""
    from matplotlib import pyplot

    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=160)
    pyplot.close(figure)
    return paths
