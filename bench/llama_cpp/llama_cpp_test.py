#!/usr/bin/env python3
"""Tests of the hook's place in llama.cpp's source, and of the tables, on made-up text and numbers."""

import argparse
import sys
import unittest

sys.dont_write_bytecode = True
import hook  # noqa: E402
import tables  # noqa: E402

SOURCE = """#include "llama-graph.h"
ggml_tensor * llm_graph_context::build_other() const {
    return ggml_mul_mat(ctx0, w, cur);
}
ggml_tensor * llm_graph_context::build_lora_mm(ggml_tensor * w, ggml_tensor * cur) const {
    ggml_tensor * res = ggml_mul_mat(ctx0, w, cur);
    if (w_s) {
        res = ggml_mul(ctx0, res, w_s);
    }
    for (const auto & lora : *loras) {
        res = ggml_add(ctx0, res, ggml_mul_mat(ctx0, lora.b, ggml_mul_mat(ctx0, lora.a, cur)));
    }
    return res;
}
"""


class HookTest(unittest.TestCase):
    def test_two_calls_in_one_function(self):
        text = hook.with_hook(SOURCE)
        self.assertEqual(text.splitlines()[0], '#include "ether_hook.h"')
        self.assertIn("res = ggml_mul_mat(ctx0, w, ether_before_product(ctx0, w, cur));", text)
        after = text.index("res = ether_after_product(ctx0, w, res);")
        self.assertLess(text.index("ether_before_product"), after)
        self.assertLess(after, text.index("for (const auto & lora"))
        self.assertIn("return ggml_mul_mat(ctx0, w, cur);", text)
        self.assertIn("ggml_mul_mat(ctx0, lora.a, cur)", text)

    def test_other_versions_are_refused(self):
        for text in (SOURCE.replace("build_lora_mm", "build_mm"),
                     SOURCE.replace("loras)", "adapters)"),
                     SOURCE.replace("res = ggml_mul_mat(ctx0, w, cur)", "res = product(w, cur)")):
            with self.assertRaises(hook.Failure):
                hook.with_hook(text)


class TablesTest(unittest.TestCase):
    # Of the third round the system took a part; it would move the median.
    ROWS = "".join(f"{number},0,{label},{time},{cores}\n" for number, label, time, cores in (
        (0, "ETHER", 110, 1.0), (0, "base", 100, 0.99), (1, "base", 200, 1.0), (1, "ETHER", 260, 1.0),
        (2, "base", 100, 1.0), (2, "ETHER", 900, 0.9)))

    def report(self, rows):
        options = argparse.Namespace(threads=2, processes=3)
        return tables.report("process,round,label,us_per_token,cores\n" + rows, ["base", "ETHER"],
                             [("ETHER", "in the graph", 5e-7, False)], options, [])

    def test_ratios_within_rounds(self):
        text = self.report(self.ROWS)
        self.assertIn("| ETHER | 0.185 | 0.035 | 1.200 | 1.150 to 1.250 |", text)
        self.assertIn("2 rounds of 3, in 3 processes", text)
        self.assertLess(text.index("| base |"), text.index("| ETHER |"))
        self.assertIn("| ETHER | in the graph | 5.0e-07 | near |", text)

    def test_too_few_rounds(self):
        with self.assertRaisesRegex(hook.Failure, "did not have their cores"):
            self.report(self.ROWS.replace("1.0\n", "0.5\n"))


if __name__ == "__main__":
    unittest.main()
