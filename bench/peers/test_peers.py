"""Tests of the arithmetic, of the program's names and of the tables, on made-up numbers.

    python3 bench/peers/peers.py --self-test

Every comparison is also shown a wrong number that it must refuse. Needs nothing but Python.
"""

import contextlib
import re
import statistics

import options
import figures
import ours
import paired
import report
import timing


def close(value, expected):
    assert abs(value - expected) <= 1e-12 * max(1, abs(expected)), f"{value} is not {expected}"


@contextlib.contextmanager
def refused(kind=AssertionError):
    """Passes only if what is inside raises `kind`."""
    try:
        yield
    except kind:
        return
    raise AssertionError("a wrong input was accepted")


def result(pairs, **more):
    return {**paired.summary(pairs), "operation": "forward", "shape": "s", "tokens": 1, "out": 2,
            "in": 3, **more}


STEADY = [(1.0, 1.1), (1.0, 1.2), (1.0, 1.3)]  # an adapter that costs a fifth


def test_quantile():
    close(paired.quantile([3, 1, 2], 0.5), 2)
    close(paired.quantile([1, 2, 3, 4], 0.25), 1.75)
    close(paired.quantile([7], 0.75), 7)
    with refused():
        close(paired.quantile([1, 2, 3, 4], 0.25), 2)


def test_pairs_cancel_a_slow_machine():
    """Every pair costs a tenth more, at four speeds; pairs of different rounds do not show it."""
    pairs = [(1.0, 1.1), (5.0, 5.5), (2.0, 2.2), (9.0, 9.9)]
    close(paired.summary(pairs)["ratio"], 1.1)
    shifted = list(zip([f for f, _ in pairs], [m for _, m in pairs[1:] + pairs[:1]]))
    with refused():
        close(paired.summary(shifted)["ratio"], 1.1)
    with refused():
        close(paired.summary([(m, f) for f, m in pairs])["ratio"], 1.1)


def test_summary():
    seen = paired.summary([(1.0, 1.5), (2.0, 2.1), (1.0, 1.3), (4.0, 4.2), (3.0, 3.4)])
    close(seen["frozen_s"], 2)
    close(seen["method_s"], 2.1)
    close(seen["added_s"], 0.3)
    close(seen["added_low"], 0.2)
    close(seen["added_high"], 0.4)
    assert seen["rounds"] == 5
    apart = [[(1.0, 1.1)] * 9, [(1.0, 1.3)] * 9]  # what differs between segments, pairs do not show
    close(paired.summary(*apart)["added_error"], 1.25 * 0.2 / 2 ** 0.5 / 2 ** 0.5)
    with refused():
        close(paired.summary(*apart)["added_error"], paired.summary(sum(apart, []))["added_error"])


def test_compare():
    peer = result(STEADY)
    half = result([(2.0, 2.1), (2.0, 2.2), (2.0, 2.3)])  # a tenth of a frozen layer twice as slow
    bound, value = paired.compare(half, peer)
    assert bound == "="
    close(value, 0.5)
    close(paired.compare(half, peer, seconds=True)[1], 1)
    with refused():
        close(paired.compare(peer, half)[1], 0.5)


def test_noise():
    noisy = result([(1.0, 0.9), (1.0, 1.1), (1.0, 1.2), (1.0, 0.8), (1.0, 1.01)])
    close(noisy["added_error"], 1.25 * 0.2 / 1.35 / 5 ** 0.5)
    assert paired.within_noise(result([(1.0, 1.1)])), "of one pair nothing is known"
    assert paired.within_noise(noisy) and not paired.within_noise(result(STEADY))
    assert paired.within_noise(result([(1.0, 0.9)] * 3)), "a negative cost is noise, too"
    assert not paired.within_noise(result([(1.0, 1.1)] * 3))
    assert paired.compare(result(STEADY), noisy) == (None, None)
    bound, value = paired.compare(noisy, result(STEADY))
    assert bound == "<"
    close(value, (0.01 + 2 * noisy["added_error"]) / 0.2)
    assert paired.upper(result([(1.0, 0.9)] * 3)) == 0


def test_overview():
    seen = paired.overview([("=", 0.5), ("<", 0.1), (None, None), ("=", 1.0)])
    assert (seen["below_1"], seen["count"], seen["noise"]) == (2, 3, 1), seen
    assert seen["bounds"] == [False, False], seen
    close(seen["median"], 0.5)
    close(seen["largest"], 1.0)
    assert paired.overview([(None, None)])["median"] is None
    seen = paired.overview([("=", 0.5), ("=", 0.6), ("<", 0.9)])
    assert seen["bounds"] == [True, True], seen  # the median may be 0.5
    seen = paired.overview([("<", 0.4), ("=", 0.6)])
    assert seen["bounds"] == [True, False], seen  # it may be 0.3


def test_pattern():
    pattern = ours.pattern(["forward", "backward"], "float32", "phi-1.5", ["lora_r8"], [1, 16])
    for name in ("forward/float/phi-1.5/lora_r8/tokens:1",
                 "backward/float/phi-1.5/lora_r8/tokens:16/manual_time"):
        assert re.search(pattern, name), name
    for name in ("merge/float/phi-1.5/lora_r8", "forward/bfloat16/phi-1.5/lora_r8/tokens:1",
                 "forward/float/phi-1.5/lora_r8/tokens:128",
                 "forward/float/phi-1x5/lora_r8/tokens:1",
                 "forward/float/phi-1.5/lora_r80/tokens:1",
                 "forward/float/phi-1.5/weight_space_lora_r8/tokens:1"):
        assert not re.search(pattern, name), name


def entry(added, **more):
    return {"name": "forward/float/phi-1.5/ether_n4/tokens:16/manual_time", "run_type": "iteration",
            "frozen_s": 1.0, "method_s": 1 + added, "ratio": 1 + added, "added_s": added,
            "added_low": added, "added_high": added, "parameters": 2048.0, "iterations": 1, **more}


def test_read():
    document = {"benchmarks": [entry(0.1), entry(0.2), entry(0.6),
                               {**entry(9.0), "run_type": "aggregate"}]}
    (key, values), = ours.read(document).items()
    assert key == ("forward", "phi-1.5", 16, "ether_n4"), key
    seen = ours.combine(values)
    close(seen["added_s"], 0.2)
    close(seen["added_low"], 0.15)  # a repetition of one pair has no spread; three of them have
    close(seen["added_high"], 0.4)
    assert seen["parameters"] == 2048 and seen["repeated"] == 3 and seen["rounds"] == 3
    close(seen["added_error"], 1.25 * statistics.stdev([0.1, 0.2, 0.6]) / 3 ** 0.5)
    assert ours.read({}) == {}
    for wrong in (entry(0.1, error_occurred=True), {"name": entry(0.1)["name"]}):
        with refused(ours.Failure):
            ours.read({"benchmarks": [wrong]})


def test_labels():
    assert figures.label("ether_plus_n32") == "ETHER+ n=32"
    for method in options.OURS + ("weight_space_ether_n32",):
        figures.colour(figures.label(method))
    for wrong in ("ether", "ether_n", "ether_n4x", "lora_n8", ""):
        with refused(ValueError):
            figures.label(wrong)


class Turns:
    """Stands for a clock and its calls: `seconds` says what each call costs, and notes it."""

    def __init__(self):
        self.order = []

    def seconds(self, call, times=1):
        self.order.append(call.name)
        return call.cost


class Call:
    def __init__(self, name, cost):
        self.name, self.cost = name, cost

    def __call__(self):
        pass


class Limits:
    rounds, budget, least_turn, longest_call = 6, 10.0, 0.01, 20.0


def test_turns():
    clock = Turns()
    calls = {"fast": Call("fast", 0.3), "slow": Call("slow", 5.0), "endless": Call("endless", 50.0)}
    pairs, left_out = timing.in_turns(clock, Call("frozen", 0.2), calls, Limits)
    assert pairs == {"fast": [(0.2, 0.3)] * 6, "slow": [(0.2, 5.0)] * 2}, pairs
    assert left_out == {"endless": 50.0}
    turns = clock.order[4:]  # after one call of each to warm up
    assert turns[:3] == ["frozen", "fast", "slow"] and turns[3:5] == ["fast", "frozen"], turns


def test_tables():
    results = [result(STEADY, library="PEFT", method="lora_r8", label="LoRA r=8"),
               result([(1.0, 1.02)] * 3, library="ether", method="ether_n4", label="ETHER n=4")]
    assert "| forward, ETHER n=4 | 0.1 (0.1; 1 of 1) |" in report.overview_text(results)
    whole = report.text("title", ["line"], results, {})
    assert "| PEFT LoRA r=8 | 1 | 1000 | 1.2e-08 | 1200 | 1.200 | 200 | 150 to 250 |" in whole
    assert "PEFT's 7 GFLOP/s, ether's 3 GFLOP/s" in report.rates_text(
        [{**results[0], "frozen_s": 12e-9 / 7}, {**results[1], "frozen_s": 12e-9 / 3}])
    assert "No summary" in report.overview_text(results[:1])


def main():
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    failed = 0
    for test in tests:
        try:
            test()
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {test.__name__}: {error}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0
