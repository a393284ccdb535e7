"""What ether_claims wrote, read and summarised."""

import csv
import math
import statistics
from collections import defaultdict
from pathlib import Path


def read(directory, name):
    """The rows of a CSV file as dictionaries, numbers as floats."""
    with open(Path(directory) / name, newline="", encoding="utf-8") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text):
    try:
        return float(text)
    except ValueError:
        return text


def group(rows, *keys):
    """{(value of each key): rows}, in the order of their first appearance; of one key, {value:
    rows}."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys)].append(row)
    return dict(groups)


def spread(values):
    """(median, lowest, highest) of those that are finite; NaN where none is."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return (math.nan,) * 3
    return statistics.median(finite), min(finite), max(finite)


def curve(rows, x, y):
    """([x], [median], [lowest], [highest]) of y over the seeds, by x."""
    points = [(value, *spread([row[y] for row in of_x])) for value, of_x in group(rows, x).items()]
    return tuple(map(list, zip(*sorted(points))))


class Robustness:
    """What one method's runs on one task say about its learning rate. The best rate is chosen by
    the median validation accuracy; all else is about test accuracy."""

    def __init__(self, rows):
        by_rate = dict(sorted(group(rows, "rate").items()))
        self.best_rate = max(by_rate, key=lambda rate: spread(
            [row["validation"] for row in by_rate[rate]])[0])
        self.at_best = by_rate[self.best_rate]
        self.best = spread([row["test"] for row in self.at_best])
        self.medians = {rate: spread([row["test"] for row in of_rate])[0]
                        for rate, of_rate in by_rate.items()}
        self.not_finite = sum(1 for row in rows if not row["finite"])
        self.runs = len(rows)

    def within(self, points):
        """Share of the learning rates whose median accuracy is within `points` of the best's."""
        near = [rate for rate, median in self.medians.items() if median >= self.best[0] - points]
        return len(near) / len(self.medians)

    def decades(self, points):
        """(lowest, highest) of the unbroken range of such rates around the best one."""
        rates = list(self.medians)
        low = high = rates.index(self.best_rate)
        fits = [self.medians[rate] >= self.best[0] - points for rate in rates]
        while low > 0 and fits[low - 1]:
            low -= 1
        while high + 1 < len(rates) and fits[high + 1]:
            high += 1
        return rates[low], rates[high]
