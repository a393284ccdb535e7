"""Whether rows of a benchmark differ between two runs by more than noise: bench/compare's test.

A row's logarithms x of n repetitions are summarised by their mean, for n >= 7 without the lowest
and the highest fifth, and by the squared error of that mean, from the winsorised variance s_w^2
(Yuen 1974; g values cut at either end, h = n - 2 g left; g = floor(n / 5), or 0 for n < 7, where
it is Welch's test), with h - 1 degrees of freedom:

    mean = sum_{g < i <= n - g} x_(i) / h          error^2 = (n - 1) s_w^2 / (h (h - 1))

From aggregates alone: the logarithm of the mean, error^2 = (stddev / mean)^2 / n, n - 1 degrees.
Of one repetition the noise is unknown, and the row is not judged. Ratios add their errors^2,
with degrees of freedom by Satterthwaite.

A change is new / old - 1. Its noise is the half width of the interval of log(new / old) in which
the truth lies for all m rows at once with 95 %: Student's t at 0.05 / m (Bonferroni) times the
error. A row is slower (faster) where the medians and the means agree that the change is above the
threshold and above the noise.
"""

import functools
import math
import re
import statistics
from collections import namedtuple

FAMILY_LEVEL = 0.05  # the chance that any row gets a verdict though nothing has changed
MOST_FREEDOM = 1000  # from here on Student's t is the normal distribution

# A positive quantity: its median, and mean and squared error of its logarithm, or None.
Estimate = namedtuple("Estimate", "median log_mean variance freedom")
# What one file says of one row. kind: "ratio" or "time"; frozen: seconds, or None.
Row = namedtuple("Row", "kind estimate frozen")
Change = namedtuple("Change", "name old new change noise verdict")


class BadInput(Exception):
    """A file that cannot be compared; the text says which one and why."""


def from_samples(samples):
    """The estimate of repetitions; of one, without a variance."""
    logs = sorted(math.log(sample) for sample in samples)
    n = len(logs)
    cut = n // 5 if n >= 7 else 0
    kept = logs[cut:n - cut]
    median = statistics.median(samples)
    if n == 1:
        return Estimate(median, logs[0], None, MOST_FREEDOM)
    winsorised = [min(max(x, kept[0]), kept[-1]) for x in logs]
    h = len(kept)
    variance = (n - 1) * statistics.variance(winsorised) / (h * (h - 1))
    return Estimate(median, statistics.fmean(kept), variance, h - 1)


def divide(a, b):
    """The estimate of a / b."""
    if a.variance is None or b.variance is None:
        return Estimate(a.median / b.median, a.log_mean - b.log_mean, None, 1)
    variance = a.variance + b.variance
    parts = a.variance ** 2 / a.freedom + b.variance ** 2 / b.freedom
    freedom = variance ** 2 / parts if parts > 0 else min(a.freedom, b.freedom)
    return Estimate(a.median / b.median, a.log_mean - b.log_mean, variance,
                    min(freedom, MOST_FREEDOM))


@functools.lru_cache(maxsize=None)
def student(freedom, level):
    """t with P(|T| > t) = level: T = sqrt(freedom) tan(a), a of density ~ cos(a)^(freedom - 1)."""
    if freedom >= MOST_FREEDOM:
        return statistics.NormalDist().inv_cdf(1 - level / 2)
    steps = 20000
    angles = [math.pi / 2 * (1 - (i + 0.5) / steps) for i in range(steps)]  # from the tail inwards
    weights = [math.cos(a) ** (freedom - 1) for a in angles]
    left = level * math.fsum(weights)
    for angle, weight in zip(angles, weights):
        left -= weight
        if left <= 0:
            return math.sqrt(freedom) * math.tan(angle)
    return 0.0


def base_of(name):
    """The row that a row of ether_bench is divided by, or None."""
    if name.startswith("merge/"):
        return "copy_w"
    tokens = re.search(r"/tokens:\d+$", name)
    for operation, base in (("forward/", "product/float"),
                            ("backward/", "product_transposed/float")):
        if tokens and name.startswith(operation):
            return base + tokens.group()
    return {"product/float/tokens:128": "eigen_product/float/tokens:128",
            "product/float/tokens:1": "read_w"}.get(name)


def compare(old, new, threshold, names=("OLD", "NEW")):
    """(changes of ratios, changes of times), each worst first. old, new: {name: Row}."""
    pairs = []
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        if a.kind != b.kind:
            lacking = names[0] if a.kind == "time" else names[1]
            raise BadInput(f"{lacking}: row '{name}' lacks the counter ratio that the other has")
        kind, base = a.kind, base_of(name)
        if kind == "time" and base in old.keys() & new.keys():
            kind = "ratio"
            a, b = (Row(kind, divide(row.estimate, rows[base].estimate), None)
                    for row, rows in ((a, old), (b, new)))
        pairs.append((kind, name, a.estimate, b.estimate))

    changes = {"ratio": [], "time": []}
    judged = sum(a.variance is not None and b.variance is not None for _, _, a, b in pairs)
    for kind, name, a, b in pairs:
        quotient = divide(b, a)
        change, noise, verdict = quotient.median - 1, None, "unknown"
        if quotient.variance is not None:
            t = student(math.floor(quotient.freedom), FAMILY_LEVEL / judged)
            width = t * math.sqrt(quotient.variance)
            noise = math.expm1(min(width, 700))
            shifts = math.log(quotient.median), quotient.log_mean
            enough = max(math.log1p(threshold), width)
            verdict = ("slower" if min(shifts) > enough else
                       "faster" if max(shifts) < -enough else "same")
        changes[kind].append(Change(name, a.median, b.median, change, noise, verdict))
    for some in changes.values():
        some.sort(key=lambda c: -c.change)
    return changes["ratio"], changes["time"]
