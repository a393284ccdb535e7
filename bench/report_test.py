#!/usr/bin/env python3
"""Tests of what the reports compute from results, on made-up numbers: adapters, and the claims."""

import json
import math
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "adapters"), str(HERE / "claims")]
import adapter_results  # noqa: E402
import figures  # noqa: E402
import report as adapter_report  # noqa: E402  (adapters/, before claims/)
import results as claims_results  # noqa: E402


def entry(name, added, pairs=4, spread=0.0, **more):
    """One repetition of a benchmark whose frozen layer takes a second."""
    return {"name": name, "run_name": name, "run_type": "iteration", "iterations": pairs,
            "frozen_s": 1.0, "method_s": 1 + added, "ratio": 1 + added, "added_s": added,
            "added_low": added - spread / 2, "added_high": added + spread / 2, "parameters": 16.0,
            "ratio_low": 1 + added - spread, "ratio_high": 1 + added + spread,
            "bytes": 64.0, "workspace": 2.0 ** 20, "allocations": 0.0, "flops": 128e3, **more}


def forward(method, tokens=128):
    return f"forward/float/llama-2-7b-attention/{method}/tokens:{tokens}/manual_time"


class AdapterResultsTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def read(self, *files):
        paths = []
        for entries in files:
            paths.append(self.directory / f"{len(paths)}.json")
            context = {"threads": "2", "compiler": "c", "eigen": "e", "date": "2026-01-01"}
            paths[-1].write_text(json.dumps({"context": context, "benchmarks": entries}))
        return adapter_results.read(paths)[1]

    def test_repetitions_of_several_files(self):
        name = forward("lora_r8")
        found = self.read([entry(name, 0.1), entry(name, 0.3)], [entry(name, 0.2)])
        key = ("forward", "float", "llama-2-7b-attention", "lora_r8", 128)
        self.assertEqual(list(found), [key])
        self.assertAlmostEqual(found[key]["added_s"], 0.2)
        self.assertEqual(found[key]["pairs"], 12)
        # the medians' standard deviation is 0.1, of three; no spread within them
        self.assertAlmostEqual(found[key]["added_error"], 1.25 * 0.1 / math.sqrt(3))

    def test_error_from_processes(self):
        name = forward("lora_r8")
        found = self.read(*([entry(name, added)] * 4 for added in (0.1, 0.2, 0.3)))
        self.assertAlmostEqual(next(iter(found.values()))["added_error"],
                               1.25 * 0.1 / math.sqrt(3))

    def test_error_from_pairs(self):
        name = forward("lora_r8")
        found = self.read([entry(name, 0.2, pairs=50, spread=0.27)] * 2)
        entry_found = next(iter(found.values()))
        self.assertAlmostEqual(entry_found["added_error"], 1.25 * 0.2 / 10)
        self.assertAlmostEqual(entry_found["ratio_error"], 1.25 * 0.4 / 10)
        found = self.read([entry(name, 0.2, pairs=50, spread=0.27)])  # of one repetition: unknown
        self.assertEqual(next(iter(found.values()))["added_error"], math.inf)

    def test_error_of_many_medians(self):
        """Of eight or more their quartiles: one far off changes nothing, one as far as others does."""
        medians = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0]  # quartiles 2 and 4
        expected = 1.25 * 2 / 1.35 / 3
        self.assertAlmostEqual(figures.pooled_error(0, 0, 9, medians), expected)
        self.assertAlmostEqual(figures.pooled_error(0, 0, 9, medians[:-1] + [1e9]), expected)
        self.assertGreater(figures.pooled_error(0, 0, 9, [8.0 if m >= 4 else m for m in medians]),
                           2 * expected)
        self.assertGreater(figures.pooled_error(0, 0, 7, medians[:6] + [1e9]), 1e6)

    def test_quotient(self):
        value, error = adapter_results.quotient(3, 0.3, 6, 0.8)
        self.assertAlmostEqual(value, 0.5)
        self.assertAlmostEqual(error, 0.5 * math.hypot(0.3 / 3, 0.8 / 6))
        self.assertIsNone(adapter_results.quotient(3, 0.3, 6, 1.6))
        self.assertIsNone(adapter_results.quotient(3, 0.3, 0, math.nan))

    def test_tables(self):
        found = self.read([entry(forward(method), added, **more) for method, added, more in (
            ("lora_r8", 0.2, {}), ("lora_r8", 0.2, {}), ("ether_n32", 0.05, {"bytes": 7654321.0}),
            ("ether_n32", 0.05, {"bytes": 7654321.0}))])
        row = adapter_report.main_table(found).splitlines()[4].split(" | ")
        self.assertEqual(row[0], "| ETHER n=32")
        self.assertIn("1.050 ± 0.000", row)
        self.assertEqual(row[7:10], ["0.25 ± 0.00", "-", "-"])  # of LoRA's
        self.assertIn("1.050 ± 0.000", adapter_report.full_tables(found))
        adapter_results.write_csv(found, self.directory / "all.csv")
        lines = claims_results.read(self.directory, "all.csv")
        self.assertEqual([line["added_s"] for line in lines], [0.05, 0.2])
        self.assertEqual(lines[0]["bytes_per_second"], "")
        self.assertEqual(lines[0]["bytes"], 7654321)

    def test_prologue(self):
        found = self.read([entry(f"{operation}/float/llama-2-7b-attention/{method}/tokens:128", added)
                           for operation, method, added in (
                               ("forward", "lora_r8", 0.5), ("prologue", "lora_r8", 0.2),
                               ("forward", "ether_n1", 0.5), ("prologue", "ether_n1", 0.05))
                           for _ in range(2)])
        rows = [line.split(" | ") for line in adapter_report.main_table(found).splitlines()[4:6]]
        self.assertEqual([row[8:10] for row in rows],
                         [["50,000 ± 0", "0.25 ± 0.00"], ["200,000 ± 0", "1"]])

    def test_lora_table(self):
        found = self.read([entry(f"forward/{kind}/{shape}/{method}/tokens:128/manual_time", added)
                           for kind, shape in (("float", "phi-1.5"), ("bfloat16", "sd-1.5-640"))
                           for method, added in (("lora_r8", 0.2), ("ether_n32", 0.05))
                           for _ in range(2)])
        self.assertEqual(adapter_report.lora_table(found).splitlines()[0::2],
                         ["|  | phi-1.5 | sd-1.5-640, bfloat16 |",
                          "| ETHER n=32 | 0.25 ± 0.00 | 0.25 ± 0.00 |"])
        self.assertEqual(adapter_report.main_table(found), "")

    def test_products(self):
        path = self.directory / "products.json"
        rows = [{"run_name": f"product/float/tokens:{tokens}/real_time", "run_type": "iteration",
                 "real_time": time} for tokens, time in ((16, 3), (1, 9), (4, 2), (1, 1), (1, 2))]
        path.write_text(json.dumps({"benchmarks": rows}))
        lines = adapter_report.products_table(path).splitlines()[2:]
        self.assertEqual(lines, [f"| product/float/tokens:{tokens} | {time} |"
                                 for tokens, time in ((1, 2), (4, 2), (16, 3))])
        rows[0]["error_occurred"], rows[0]["error_message"], rows[0]["name"] = True, "wrong", "p"
        path.write_text(json.dumps({"benchmarks": rows}))
        with self.assertRaises(SystemExit):
            adapter_report.products_table(path)

    def test_weight_space(self):
        found = self.read([entry(forward(method, 1), added) for method, added in
                           (("ether_n32", 0.0), ("weight_space_ether_n32", 22.0)) for _ in range(2)])
        self.assertIn("* ETHER n=32, float, 1 token: 23 ± 0 times as fast",
                      adapter_report.weight_space_lines(found))

    def test_refused(self):
        for wrong in (entry(forward("lora_r8"), 0.1, ratio=math.nan), entry("forward/float/x", 0.1),
                      entry(forward("no_method_8"), 0.1),
                      entry(forward("lora_r8"), 0.1, error_occurred=True, error_message="e")):
            with self.assertRaises(SystemExit):
                self.read([wrong])
        with self.assertRaises(SystemExit):
            self.read([])
        with self.assertRaises(SystemExit):
            adapter_results.read([self.directory / "absent.json"])


class ClaimsResultsTest(unittest.TestCase):
    def test_robustness(self):
        """Four learning rates, three seeds each; validation chooses 0.1, test is what is reported."""
        rows = [{"rate": rate, "validation": validation, "test": test + seed, "finite": 1.0}
                for rate, validation, test in ((1, 60, 95), (0.1, 90, 94), (0.01, 80, 92.5),
                                               (0.001, 70, 91.9))
                for seed in (-1, 0, 1)]
        rows[0]["finite"] = 0.0
        robust = claims_results.Robustness(rows)
        self.assertEqual(robust.best_rate, 0.1)
        self.assertEqual(robust.best, (94, 93, 95))
        self.assertEqual(robust.within(2), 0.75)
        self.assertEqual(robust.within(3), 1)
        self.assertEqual(robust.decades(2), (0.01, 1))
        self.assertEqual((robust.not_finite, robust.runs), (1, 12))

    def test_spread(self):
        self.assertEqual(claims_results.spread([3, math.nan, 1, 2, math.inf]), (2, 1, 3))
        self.assertTrue(math.isnan(claims_results.spread([math.nan])[0]))


class FiguresTest(unittest.TestCase):
    def test_labels_and_order(self):
        methods = ["lora_r16", "ether_plus_n4", "lora_r8", "ether_n32", "ether_n4"]
        self.assertEqual(sorted(methods, key=figures.order),
                         ["ether_n4", "ether_n32", "ether_plus_n4", "lora_r8", "lora_r16"])
        self.assertEqual(figures.label("ether_plus_n4"), "ETHER+ n=4")
        with self.assertRaises(ValueError):
            figures.label("lora_r")


if __name__ == "__main__":
    unittest.main()
