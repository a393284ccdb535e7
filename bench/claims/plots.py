"""Plots of what ether_claims wrote."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import figures
import results

TITLES = {"rotated": "Digits turned by 90°", "inverted": "Inverted contrast with noise"}
RATE = "learning rate of Adam"
DASHES = {"ETHER both sides": "--", "ETHER n=1": ":", "ETHER n=16": "--"}
# Those that lie on one curve: the shorter ones above, with other markers.
STYLES = {"ETHER n=1": {"zorder": 5, "markerfacecolor": "white", "markersize": 4},
          "ETHER n=4": {"zorder": 4, "markerfacecolor": "#99c7e0", "markersize": 6},
          "ETHER n=16": {"zorder": 3, "markersize": 5}}


def draw(axes, label, x, middle, low, high):
    """A line of medians, and a band from the lowest to the highest seed."""
    style = {"color": figures.colour(label), "linestyle": DASHES.get(label, "-")}
    axes.plot(x, middle, marker=figures.marker(label), label=label, **style,
              **STYLES.get(label, {}))
    axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)


def legend_below(figure, axes, columns):
    """One legend for all panels, under them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=columns, bbox_to_anchor=(0.5, 0.0))
    figure.tight_layout()


def against_rate(directory, rows, field, label, stem, scale="linear", reference=None):
    """A panel for each task: `field` against the learning rate, a line for each method."""
    tasks = results.group(rows, "task")
    figure, panels = figures.new_figure(columns=len(tasks), sharey=True)
    for axes, (task, of_task) in zip(panels, tasks.items()):
        for method, of_method in results.group(of_task, "method").items():
            x, *values = results.curve(of_method, "rate", field)
            if any(value == value for value in values[0]):  # not all NaN
                draw(axes, method, x, *values)
        if reference:
            axes.axhline(reference[1](task), color=figures.colour("frozen"), linestyle=":",
                         label=reference[0])
        axes.set(xscale="log", xlabel=RATE, title=TITLES[task])
        if scale == "linear":
            axes.set_ylim(bottom=0)
        axes.set_yscale(scale, **({"linthresh": 0.01} if scale == "symlog" else {}))
    panels[0].set_ylabel(label)
    legend_below(figure, panels[0], columns=4)
    return figures.save(figure, Path(directory) / stem)


def perturbation(directory, rows):
    """Accuracy of the pretrained network against the distance of weights and of transforms."""
    figure, panels = figures.new_figure(columns=2, sharey=True)
    for method, of_method in results.group(rows, "method").items():
        levels = results.group(of_method, "strength").values()
        accuracy = [results.spread([row["test"] for row in level]) for level in levels]
        for axes, field in zip(panels, ("weight_distance", "transform_distance")):
            x = [results.spread([row[field] for row in level])[0] for level in levels]
            if x[0] == x[0]:
                draw(axes, method, x, *map(list, zip(*accuracy)))
    panels[0].set(xlabel="‖W′ − W‖ / ‖W‖ of all layers", ylabel="accuracy on upright digits (%)",
                  title="By the change of the weights")
    panels[1].set(xlabel="‖H − I‖ (Frobenius), all sides of all layers",
                  title="By the change of the transform")
    legend_below(figure, panels[0], columns=4)
    return figures.save(figure, Path(directory) / "perturbation")


def energy(directory, rows, base):
    """Relative change of the hyperspherical energy at each method's best learning rate."""
    tasks = results.group(rows, "task")
    figure, panels = figures.new_figure(columns=len(tasks), height=2.9, sharey=True)
    for axes, (task, of_task) in zip(panels, tasks.items()):
        for place, (method, of_method) in enumerate(results.group(of_task, "method").items()):
            runs = results.Robustness(of_method).at_best
            middle, low, high = results.spread([100 * (r["energy"] / base - 1) for r in runs])
            axes.barh(place, middle, color=figures.colour(method), height=0.6,
                      xerr=[[middle - low], [high - middle]], ecolor="#444444")
            axes.annotate(f"{middle:+.3f}", (max(high, 0), place), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=8)
        names = list(results.group(of_task, "method"))
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.18)
        axes.set(xlabel="change of the energy (%)", title=TITLES[task])
    panels[0].invert_yaxis()
    figure.tight_layout()
    return figures.save(figure, Path(directory) / "energy")
