#!/usr/bin/env python3
"""Tests of bench/compare on made-up files: what it finds, how often it errs, what it refuses."""

import json
import math
import random
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from comparison import Row, compare, from_samples, student  # noqa: E402

COMPARE = Path(__file__).parent / "compare"
FROZEN_S = 2e-3


def adapter_rows(rng, rows=20, repetitions=9, noise=0.01, speed=1.0, slower=()):
    """Entries as ether_adapter_bench has them; the ratio of the rows in `slower` is times 1.1."""
    entries = []
    for i in range(rows):
        for r in range(repetitions):
            frozen = FROZEN_S * speed * math.exp(rng.gauss(0, 0.1))
            ratio = (1.1 if i in slower else 1) * (1 + 0.02 * i) * math.exp(rng.gauss(0, noise))
            entries.append({
                "name": f"forward/float/4096x4096/method_{i}/tokens:1/iterations:1/manual_time",
                "run_type": "iteration", "repetition_index": r, "repetitions": repetitions,
                "real_time": frozen * ratio * 1e3, "time_unit": "ms", "frozen_s": frozen,
                "method_s": frozen * ratio, "ratio": ratio, "added_s": frozen * (ratio - 1)})
    return entries


def layer_rows(rng, speed=1.0, merge=1.0, aggregates=True, n=15):
    """Entries as ether_bench has them."""
    entries = []
    for name, ms in (("copy_w", 20), ("merge/ether/input/n:1", 15 * merge), ("read_w", 5),
                     ("product/float/tokens:128", 90), ("product/bfloat16/tokens:128", 80),
                     ("forward/ether/input/n:1/tokens:128", 92)):
        times = [ms * speed * math.exp(rng.gauss(0, 0.01)) for _ in range(n)]
        mean = sum(times) / n
        values = {"mean": mean, "median": sorted(times)[n // 2],
                  "stddev": math.sqrt(sum((t - mean) ** 2 for t in times) / (n - 1))}
        some = [{"run_type": "aggregate", "aggregate_name": key, "real_time": value}
                for key, value in values.items()]
        if not aggregates:
            some = [{"run_type": "iteration", "real_time": t} for t in times]
        for entry in some:
            entries.append({"run_name": name + "/real_time", "repetitions": n, "time_unit": "ms",
                            "name": name, **entry})
    return entries


class CompareTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.rng = random.Random(1)

    def run_on(self, old, new, *options):
        """(status, stdout, stderr) on two files of these entries, or of these texts."""
        paths = []
        for name, content in (("old.json", old), ("new.json", new)):
            paths.append(self.directory / name)
            if isinstance(content, list):
                content = json.dumps({"context": {"num_cpus": 2}, "benchmarks": content})
            if content is not None:
                paths[-1].write_text(content)
        done = subprocess.run([sys.executable, COMPARE, *paths, *options], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def refused(self, old, new, *words):
        status, _, stderr = self.run_on(old, new)
        self.assertEqual(status, 2)
        self.assertEqual(stderr.count("\n"), 1, stderr)
        for word in words:
            self.assertIn(word, stderr)

    def test_student(self):
        """Against the tables that are printed everywhere."""
        for freedom, level, expected in ((1, 0.05, 12.706), (4, 0.05, 2.776), (2, 0.001, 31.599),
                                         (28, 0.01, 2.763), (100, 0.001, 3.390),
                                         (1000, 0.05, 1.960)):
            self.assertAlmostEqual(student(freedom, level) / expected, 1, delta=1e-3)

    def false_alarms(self, repetitions, disturbed_share, shift=1.0, runs=300, rows=20):
        """The share of comparisons in which any row has a verdict, at a threshold of 0. Noise of
        1 %; a share of the repetitions was disturbed and takes up to 1.5 times as long."""
        def sample(rng):
            disturbed = rng.random() < disturbed_share
            return math.exp(rng.gauss(0, 0.01)) * (1 + 0.5 * rng.random() * disturbed)

        wrong = 0
        for seed in range(runs):
            rng = random.Random(seed)
            old, new = ({str(i): Row("ratio", from_samples([factor * sample(rng) for _ in
                                                            range(repetitions)]), None)
                         for i in range(rows)} for factor in (1, shift))
            ratios, _ = compare(old, new, 0)
            wrong += any(c.verdict in ("slower", "faster") for c in ratios)
        return wrong / runs

    def test_false_alarms(self):
        """At most 5 % by construction; plus three standard errors of 300 runs."""
        for share in (0, 0.1):
            for repetitions in (3, 5, 7, 15):
                rate = self.false_alarms(repetitions, share)
                print(f"{repetitions} repetitions, {100 * share:g} % disturbed, 20 equal rows, "
                      f"threshold 0: a verdict in {100 * rate:.1f} % of 300 comparisons")
                self.assertLessEqual(rate, 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300))
        self.assertGreater(self.false_alarms(15, 0.1, shift=1.1, runs=50), 0.95)  # it can fail

    def test_equal_files(self):
        entries = adapter_rows(self.rng)
        status, stdout, _ = self.run_on(entries, entries)
        self.assertEqual(status, 0)
        self.assertIn("20 same", stdout)
        status, _, _ = self.run_on(entries, adapter_rows(self.rng))
        self.assertEqual(status, 0)

    def test_a_tenth_slower_is_found(self):
        for repetitions in (5, 9, 15):
            old = adapter_rows(self.rng, repetitions=repetitions)
            status, stdout, _ = self.run_on(
                old, adapter_rows(self.rng, repetitions=repetitions, slower=[7]))
            self.assertEqual(status, 1)
            self.assertIn("1 slower, 19 same", stdout)
            self.assertRegex(stdout, r"method_7/tokens:1 .* slower")
            reverse, stdout, _ = self.run_on(
                adapter_rows(self.rng, repetitions=repetitions, slower=[7]), old)
            self.assertEqual(reverse, 0)
            self.assertIn("1 faster", stdout)

    def test_threshold_and_noise_both_count(self):
        old, new = adapter_rows(self.rng), adapter_rows(self.rng, slower=[7])
        self.assertEqual(self.run_on(old, new, "--threshold", "15%")[0], 0)
        noisy = adapter_rows(self.rng, noise=0.3), adapter_rows(self.rng, noise=0.3, slower=[7])
        status, stdout, _ = self.run_on(*noisy)
        self.assertEqual(status, 0)
        self.assertIn("noise is large", stdout)
        self.assertNotIn("noise is large", self.run_on(old, new)[1])
        self.assertEqual(self.run_on(old, new, "--threshold", "nan")[0], 2)

    def test_a_slower_machine_is_no_slower_row(self):
        status, stdout, _ = self.run_on(adapter_rows(self.rng), adapter_rows(self.rng, speed=1.5))
        self.assertEqual(status, 0)
        self.assertRegex(stdout, r"frozen layer's own time: \+[45]\d")

    def test_layer_bench(self):
        for aggregates in (True, False):
            def rows(**options):
                return layer_rows(self.rng, aggregates=aggregates, **options)
            status, stdout, _ = self.run_on(rows(), rows(speed=1.5))
            self.assertEqual(status, 0)
            self.assertIn("Ratios to the frozen layer: 2 same", stdout)
            self.assertIn("weak evidence: 4 slower", stdout)
            self.assertEqual(self.run_on(rows(), rows(speed=1.5), "--absolute")[0], 1)
            status, stdout, _ = self.run_on(rows(), rows(merge=1.15))
            self.assertEqual(status, 1)
            self.assertRegex(stdout, r"merge/ether/input/n:1 +0\.7.. +0\.8.. .* slower")

    def test_one_repetition_is_not_judged(self):
        old = adapter_rows(self.rng, repetitions=1)
        new = adapter_rows(self.rng, repetitions=1, slower=[7])
        status, stdout, _ = self.run_on(old, new)
        self.assertEqual(status, 0)
        self.assertIn("20 unknown", stdout)

    def test_worst_first_and_one_sided_rows(self):
        old, new = adapter_rows(self.rng), adapter_rows(self.rng, slower=[3])
        del old[:9], new[-9:]
        status, stdout, _ = self.run_on(old, new, "--all")
        self.assertEqual(status, 1)
        changes = re.findall(r"([+-]\d+\.\d) % .*(?:same|slower)$", stdout, re.M)
        self.assertEqual(len(changes), 18)
        self.assertEqual(changes, sorted(changes, key=float, reverse=True))
        self.assertRegex(stdout, r"Only in \S*old.json: .*method_19/")
        self.assertRegex(stdout, r"Only in \S*new.json: .*method_0/")

    def test_unlike_circumstances_are_said_first(self):
        entries = adapter_rows(self.rng)
        texts = [json.dumps({"context": {"num_cpus": n, "date": n}, "benchmarks": entries})
                 for n in (2, 4)]
        stdout = self.run_on(*texts)[1]
        self.assertTrue(stdout.startswith("Warning: unlike circumstances"), stdout)
        self.assertIn("num_cpus 2 and 4", stdout)
        self.assertNotIn("date", stdout)

    def test_bad_counters_are_refused(self):
        good = adapter_rows(self.rng)
        for key in ("ratio", "frozen_s", "method_s"):
            for value in (math.nan, math.inf, 0, -1, "1", None, True):
                bad = [dict(entry) for entry in good]
                bad[5][key] = value
                self.refused(good, bad, "new.json", "method_0/", key)
            del bad[5][key]
            self.refused(bad, good, "old.json", "method_0/", key, "missing")
        plain = [{key: entry[key] for key in ("name", "real_time", "time_unit")} for entry in good]
        self.refused(good, plain, "new.json", "lacks the counter ratio")
        plain[0]["real_time"] = 0
        self.refused(plain, plain, "old.json", "real_time is 0")
        layer = layer_rows(self.rng)
        self.refused(layer[1:], layer, "old.json", "'copy_w'", "mean")

    def test_bad_files_are_refused(self):
        good = adapter_rows(self.rng)
        self.refused(None, good, "old.json", "No such file")
        for text in ("", "{", "[]", "{}", '{"benchmarks": [1]}', '{"benchmarks": [{}]}',
                     '{"benchmarks": []}', "[" * 10 ** 5, "\0", '{"benchmarks": {"a": 1}}'):
            self.refused(good, text, "new.json")
        self.refused(good, layer_rows(self.rng), "no row in common")
        failed = [dict(good[0], error_occurred=True, error_message="wrong product"), *good[1:]]
        self.refused(good, failed, "new.json", "wrong product")


if __name__ == "__main__":
    unittest.main()
