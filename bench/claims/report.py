#!/usr/bin/env python3
"""Makes claims.md and the plots of what ether_claims wrote into a directory.

Usage: report.py DIR
"""

import sys
from pathlib import Path

import plots
import results
import tables


def main(directory):
    directory = Path(directory)
    setup = {row["key"]: row["value"] for row in results.read(directory, "setup.csv")}
    runs = results.read(directory, "learning_rates.csv")
    methods = results.read(directory, "methods.csv")
    perturbed = results.read(directory, "perturbation.csv")
    for run in runs:
        run["energy_change"] = 100 * (run["energy"] / setup["base_energy"] - 1)

    plots.against_rate(directory, runs, "test", "accuracy on held-out digits (%)", "accuracy",
                       reference=("frozen", lambda task: setup["base_" + task]))
    plots.against_rate(directory, runs, "weight_distance", "‖W′ − W‖ / ‖W‖ of all layers",
                       "weight_distance", scale="log")
    plots.against_rate(directory, runs, "transform_distance",
                       "‖H − I‖ (Frobenius), all sides of all layers", "transform_distance")
    plots.against_rate(directory, runs, "energy_change", "change of the energy (%)",
                       "energy_by_rate", scale="symlog")
    plots.energy(directory, runs, setup["base_energy"])
    plots.perturbation(directory, perturbed)

    (directory / "claims.md").write_text("\n".join([
        tables.head(setup),
        tables.counts(results.read(directory, "counts.csv")),
        tables.flops(results.read(directory, "flop_models.csv"),
                     results.read(directory, "pass_flops.csv"),
                     results.read(directory, "block_flops.csv")),
        tables.learning_rates(setup, methods, runs),
        tables.distances(runs),
        tables.perturbation(setup, perturbed),
        tables.energy(setup, runs),
    ]), encoding="utf-8")
    print(f"wrote {directory / 'claims.md'}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    try:
        main(sys.argv[1])
    except (OSError, KeyError) as error:
        sys.exit(f"report.py: {error}; run ether_claims --out {sys.argv[1]} first")
