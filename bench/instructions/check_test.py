#!/usr/bin/env python3
"""Tests of check.py with a made-up program and a made-up valgrind that counts as it is told."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECK = Path(__file__).parent / "check.py"
PROGRAM = """#!/bin/sh
case $1 in
  --versions) echo "c++ 1, Eigen 2" ;;
  --list) printf 'merge/n:32 64\\nreader 3\\n' ;;
esac
"""
# valgrind OPTIONS... --callgrind-out-file=FILE PROGRAM --run NAME
VALGRIND = """#!/bin/sh
for word; do
  case $word in --callgrind-out-file=*) out=${{word#*=}} ;; esac
  name=$word
done
case $name in
  merge/n:32) count={merge} ;;
  reader) count={reader} ;;
esac
printf 'events: Ir\\nsummary: 0\\n\\ntotals: %s\\n' "$count" >"$out"
exit {status}
"""


class CheckTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.expected = self.directory / "expected.json"
        self.expect({"merge/n:32": 10000, "reader": 500})
        self.make("program", PROGRAM)

    def expect(self, counts, versions="c++ 1, Eigen 2"):
        self.expected.write_text(json.dumps({versions: counts}))

    def make(self, name, text):
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def check(self, *options, merge=10000, reader=500, status=0, valgrind=None):
        """(status, all output) where callgrind counts so many instructions."""
        counting = self.make("valgrind", VALGRIND.format(merge=merge, reader=reader, status=status))
        done = subprocess.run(
            [sys.executable, CHECK, self.directory / "program", "--expected", self.expected,
             "--valgrind", valgrind or counting, *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertNotIn("Traceback", done.stdout)
        return done.returncode, done.stdout

    def test_equal_and_nearly_equal_counts_pass(self):
        for merge in (10000, 10099, 9901):
            status, output = self.check(merge=merge)
            self.assertEqual(status, 0, output)
            self.assertNotIn("record", output)

    def test_more_instructions_fail(self):
        for counts in ({"merge": 10101}, {"merge": 20000}, {"reader": 506}):
            status, output = self.check(**counts)
            self.assertEqual(status, 1, output)
            self.assertEqual(output.count("FAILED"), 1)

    def test_fewer_instructions_are_to_be_recorded(self):
        status, output = self.check(merge=9000)
        self.assertEqual(status, 0)
        self.assertIn("record it", output)
        self.assertEqual(self.check("--record", merge=9000)[0], 0)
        self.assertEqual(json.loads(self.expected.read_text()),
                         {"c++ 1, Eigen 2": {"merge/n:32": 9000, "reader": 500}})
        self.assertEqual(self.check(merge=10000)[0], 1)

    def test_other_versions_are_skipped_and_kept(self):
        self.expect({"merge/n:32": 1, "reader": 1}, versions="c++ 9")
        status, output = self.check()
        self.assertEqual(status, 77)
        self.assertIn("no counts are recorded", output)
        self.assertEqual(self.check("--record")[0], 0)
        self.assertEqual(json.loads(self.expected.read_text()).keys(), {"c++ 9", "c++ 1, Eigen 2"})

    def test_no_valgrind_and_no_avx2_are_skipped(self):
        self.assertEqual(self.check(valgrind="/nowhere/valgrind")[0], 77)
        self.make("program", "#!/bin/sh\necho no AVX2\nexit 77\n")
        status, output = self.check()
        self.assertEqual(status, 77)
        self.assertIn("no AVX2", output)

    def test_lists_that_differ_fail(self):
        for counts in ({"merge/n:32": 10000},
                       {"merge/n:32": 10000, "reader": 500, "renamed": 1}):
            self.expect(counts)
            self.assertEqual(self.check()[0], 1)

    def test_what_counts_nothing_fails(self):
        self.assertEqual(self.check(reader=0)[0], 1)
        self.assertEqual(self.check(reader="")[0], 1)
        self.assertEqual(self.check(status=3)[0], 1)

    def test_bad_expectations_are_refused(self):
        for text in ("", "[]", '{"c++ 1, Eigen 2": 1}', '{"c++ 1, Eigen 2": {"reader": 0}}',
                     '{"c++ 1, Eigen 2": {"reader": "1"}}', '{"c++ 1, Eigen 2": {"reader": NaN}}'):
            self.expected.write_text(text)
            self.assertEqual(self.check()[0], 2, text)
        self.expected.unlink()
        self.assertEqual(self.check()[0], 2)


if __name__ == "__main__":
    unittest.main()
