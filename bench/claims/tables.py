"""Tables of what ether_claims wrote, in Markdown."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import figures
import plots
import results


def number(value, digits=2):
    """Fixed digits; a dash for NaN; powers of ten where fixed digits would hide the number."""
    if value != value:
        return "–"
    if value != 0 and (abs(value) >= 1e4 or abs(value) < 0.5 * 10 ** -digits):
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def between(low, high, digits=2):
    return "–" if low != low else f"{number(low, digits)} – {number(high, digits)}"


def millions(value):
    return "–" if value != value else f"{value / 1e6:.3f}"


def head(setup):
    quick = " **A quick run: the numbers mean nothing.**" if setup["quick"] else ""
    return f"""# The paper's claims, measured

{figures.machine(int(setup["threads"]))}; {setup["compiler"]}; {setup["date"]};
{setup["seconds"]:.0f} seconds, {setup["processor_seconds"]:.0f} of processor time.
What each claim is and how it is computed:
[bench/claims](../../claims/README.md).{quick}
"""


def counts(rows):
    text = """## Parameters and FLOPs of adapters

Query and value projections, forward; n is the number of blocks. FLOPs on activations do not
depend on it. Published: for Llama-2-7B, in the paper.
"""
    for model, of_model in results.group(rows, "model").items():
        shown = [row for row in of_model if row["adapted"] == "q v"]
        text += f"\n**{model}**\n\n" + figures.markdown_table(
            ["method", "parameters, M", "published, M", "difference, M",
             "on activations, MFLOP per token", "weight space, TFLOP per pass, n=1", "n=4", "n=32"],
            [[f"{row['method']} {row['settings']}".strip(), millions(row["parameters"]),
              millions(row["published_parameters"]),
              millions(row["parameters"] - row["published_parameters"]),
              number(row["flops_per_token"] / 1e6),
              *[number(row[f"weight_space_n{n}"] / 1e12) for n in (1, 4, 32)]]
             for row in shown])
    return text


def flops(models, rows, blocks):
    text = """## TFLOPs per pass

The paper's totals do not come with the number of tokens, the adapted layers and what is counted.
Of all combinations of pass, adapted layers, counted parts and multiples of 64 tokens the closest
three, by the mean of |ours / published - 1|, and the closest forward pass:

"""
    lines = []
    for model, found in results.group(models, "model").items():
        for row in sorted(found, key=lambda row: row["misfit"])[:3]:
            lines.append([model, row["pass"], row["adapted"], row["counted"],
                          f"{row['tokens']:.0f}", f"{100 * row['misfit']:.1f} %"])
        row = min((row for row in found if row["pass"] == "forward"),
                  key=lambda row: row["misfit"])
        lines.append([f"{model}, best of forward alone", row["pass"], row["adapted"],
                      row["counted"], f"{row['tokens']:.0f}", f"{100 * row['misfit']:.1f} %"])
    text += figures.markdown_table(["model", "pass", "adapted", "counted", "tokens",
                                    "mean difference"], lines)
    text += "\nThe published totals beside ours, under the closest counting of either kind:\n"
    for model, of_model in results.group(rows, "model").items():
        by_pass = results.group(of_model, "pass")
        header = ["method", "published"]
        for kind, of_kind in by_pass.items():
            header += [f"{kind}, {of_kind[0]['adapted']}, {of_kind[0]['tokens']:.0f} tokens",
                       "difference", "the same on activations"]
        lines = []
        for same in zip(*by_pass.values()):
            first = same[0]
            setting = f"n={first['blocks']:.0f}" if first["blocks"] else "r=8"
            line = [f"{first['method']} {setting}", number(first["published"])]
            for row in same:
                difference = 100 * (row["ours"] / row["published"] - 1)
                line += [number(row["ours"]), f"{difference:+.1f} %",
                         number(row["on_activations"])]
            lines.append(line)
        text += f"\n**{model}**\n\n" + figures.markdown_table(header, lines)
    text += "\nTotal with n=4 less total with n=32: the frozen model and the tokens drop out.\n\n"
    kinds = list(results.group([row for row in blocks if row["adapted"] != "all linear"],
                               "pass", "adapted"))
    lines = []
    for (model, method), same in results.group(blocks, "model", "method").items():
        ours = {(row["pass"], row["adapted"]): row["ours"] for row in same}
        lines.append([f"{model}, {method}", number(same[0]["published"]),
                      *[number(ours[kind]) for kind in kinds]])
    return text + figures.markdown_table(
        ["", "published", *[f"{kind}, {adapted}" for kind, adapted in kinds]], lines)


def learning_rates(setup, methods, runs):
    listed = {row["method"]: row for row in methods}
    text = f"""## Learning-rate robustness

{setup["training_digits"]:.0f} training digits, {setup["validation_digits"]:.0f} to choose the
learning rate, {setup["test_digits"]:.0f} held out; {methods[0]["epochs"]:.0f} epochs;
median (lowest – highest) of the seeds. The pretrained network has
{setup["base_parameters"]:.0f} parameters and {setup["base_upright"]:.1f} % on upright digits.
"""
    for task, of_task in results.group(runs, "task").items():
        lines = []
        for method, of_method in results.group(of_task, "method").items():
            r = results.Robustness(of_method)
            low, high = r.decades(2)
            lines.append([f"{method}: {listed[method]['settings']}",
                          f"{listed[method]['parameters']:.0f}", f"{r.best_rate:.1e}",
                          f"{r.best[0]:.1f} ({r.best[1]:.1f} – {r.best[2]:.1f})",
                          f"{100 * r.within(2):.0f} %", f"{low:.1e} – {high:.1e}",
                          f"{100 * r.within(5):.0f} %",
                          f"{r.medians[max(r.medians)]:.1f}", f"{r.not_finite} of {r.runs}"])
        text += f"\n**{plots.TITLES[task]}** (without finetuning {setup['base_' + task]:.1f} %)\n\n"
        text += figures.markdown_table(
            ["method", "trained", "best rate", "accuracy at it, %",
             "rates within 2 points", "around the best", "within 5 points", "at rate 10, %",
             "not finite"], lines)
    return text + ("\nRuns that did not stay finite count as chance, 10 %."
                   "\n\n![accuracy against learning rate](accuracy.png)\n")


def distances(runs):
    text = """## Distance

Lowest and highest over all learning rates and seeds; the bound is theory's, and the program stops
where it is broken.
"""
    for task, of_task in results.group(runs, "task").items():
        lines = []
        for method, of_method in results.group(of_task, "method").items():
            low_h, high_h = results.spread([row["transform_distance"] for row in of_method])[1:]
            low_w, high_w = results.spread([row["weight_distance"] for row in of_method])[1:]
            bound = results.spread([row["transform_bound"] for row in of_method])[0]
            best = results.Robustness(of_method).at_best
            lines.append([method, number(bound), between(low_h, high_h),
                          between(low_w, high_w, 3),
                          number(results.spread([row["weight_distance"] for row in best])[0])])
        text += f"\n**{plots.TITLES[task]}**\n\n" + figures.markdown_table(
            ["method", "bound of ‖H − I‖", "‖H − I‖", "‖W′ − W‖ / ‖W‖", "at the best rate"], lines)
    return text + ("\n![distance of the transforms](transform_distance.png)"
                   "\n![distance of the weights](weight_distance.png)\n")


def perturbation(setup, rows):
    def energy_of(level):
        return results.spread([row["energy"] for row in level])[0]

    lines = []
    for method, of_method in results.group(rows, "method").items():
        levels = list(results.group(of_method, "strength").values())
        last = levels[-1]
        half = [results.spread([row["weight_distance"] for row in level])[0]
                for level in levels if results.spread([row["test"] for row in level])[0] < 50]
        accuracy = results.spread([row["test"] for row in last])
        lines.append([method, last[0]["scale"], number(last[0]["strength"]),
                      number(results.spread([row["transform_distance"] for row in last])[0]),
                      number(results.spread([row["weight_distance"] for row in last])[0]),
                      f"{accuracy[0]:.1f} ({accuracy[1]:.1f} – {accuracy[2]:.1f})",
                      number(half[0]) if half else "never",
                      number(100 * (energy_of(last) / setup["base_energy"] - 1))])
    text = """## Perturbation

Random directions on the pretrained network, at the largest level:

"""
    return text + figures.markdown_table(
        ["method", "level is", "largest level", "‖H − I‖", "‖W′ − W‖ / ‖W‖",
         "accuracy on upright digits, %", "below 50 % from ‖W′ − W‖ / ‖W‖",
         "change of the energy, %"], lines) + \
        "\n![accuracy of the perturbed network](perturbation.png)\n"


def energy(setup, runs):
    lines = []
    tasks = results.group(runs, "task")
    for method in results.group(runs, "method"):
        line = [method]
        for of_task in tasks.values():
            of_method = [row for row in of_task if row["method"] == method]
            best = results.spread([row["energy_change"]
                                   for row in results.Robustness(of_method).at_best])
            every = results.spread([row["energy_change"] for row in of_method])
            line += [f"{best[0]:+.3f}", f"{every[1]:+.2f} – {every[2]:+.2f}"]
        lines.append(line)
    header = ["method"]
    for task in tasks:
        header += [f"{task}: at the best rate, %", "over all rates, %"]
    text = f"""## Hyperspherical energy

The sum over all layers, {setup["base_energy"]:,.0f} before finetuning, and its change by it.

"""
    return text + figures.markdown_table(header, lines) + (
        "\n![energy at the best rates](energy.png)"
        "\n![energy against learning rate](energy_by_rate.png)\n")
