"""The arithmetic: what pairs of times say, and how one method's added time compares with another's.

A pair is (seconds of the frozen layer, seconds of the layer with an adapter), both of one call and
from the same round. Needs nothing but Python.
"""

import math
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import figures  # noqa: E402


def quantile(values, share):
    """The value below which `share` (0 to 1) of `values` lies, interpolated between neighbours."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def summary(*segments):
    """Of the pairs of all segments: medians of both times, of their ratio and of their difference,
    with its quartiles and standard error; seconds.

    Ratio and difference are taken pair by pair, so that a slow round counts on both sides alike.
    """
    def difference(pair):
        frozen, method = pair
        return method - frozen

    pairs = [pair for segment in segments for pair in segment]
    added = [difference(pair) for pair in pairs]
    low, high = quantile(added, 0.25), quantile(added, 0.75)
    medians = [statistics.median(map(difference, segment)) for segment in segments]
    return {
        "frozen_s": statistics.median(frozen for frozen, _ in pairs),
        "method_s": statistics.median(method for _, method in pairs),
        "ratio": statistics.median(method / frozen for frozen, method in pairs),
        "added_s": statistics.median(added),
        "added_low": low,
        "added_high": high,
        "added_error": (figures.median_error(low, high, len(pairs)) if len(segments) == 1 else
                        figures.pooled_error(low, high, len(pairs), medians)),
        "rounds": len(pairs),
    }


def within_noise(result):
    """Whether the added time is not told from none: it is not above two standard errors."""
    return result["added_s"] <= 2 * result["added_error"] or result["ratio"] <= 1


def added(result, seconds=False):
    """What the adapter costs: as a share of its own frozen layer's time, or in seconds."""
    return result["added_s"] if seconds else result["ratio"] - 1


def upper(result, seconds=False):
    """The same and two standard errors, not below 0."""
    margin = 2 * result["added_error"] / (1 if seconds else result["frozen_s"])
    return max(added(result, seconds) + margin, 0)


def compare(ours, peer, seconds=False):
    """(bound, value): our added time over the peer's, each as `added` gives it.

    bound is "=" or, where our own added time is within noise, "<", value then being of `upper` (of
    ours; the peer's error is not in it); (None, None) where the peer's added time, the denominator,
    is within noise.
    """
    if within_noise(peer):
        return None, None
    if within_noise(ours):
        return "<", upper(ours, seconds) / added(peer, seconds)
    return "=", added(ours, seconds) / added(peer, seconds)


def overview(comparisons):
    """Of [(bound, value)]: the median and largest value, how many below 1, how many there are.

    `bounds` says whether median and largest are upper bounds. Denominators within noise are left
    out of all but `noise`, their number. None without values.
    """
    values = [value for bound, value in comparisons if bound]
    return {
        "median": statistics.median(values) if values else None,
        "largest": max(values) if values else None,
        "below_1": sum(value < 1 for value in values),
        "count": len(values),
        "bounds": [any(bound == "<" and value >= least for bound, value in comparisons if bound)
                   for least in (statistics.median_low(values), max(values))] if values else None,
        "noise": len(comparisons) - len(values),
    }
