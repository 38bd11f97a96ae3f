"""bench/compare and bench/report: started by tests/run, which gives a result file of a real run.

usage: bench_scripts_test.py RESULTS.json [CHROMIUM]
"""

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench", "plots"))
sys.dont_write_bytecode = True
from confidence import ratio_interval, student_quantile  # noqa: E402

RESULTS, CHROMIUM = "", ""

# Every chart that issues of speed, space and time are shown by.
CHARTS = ["size-thread", "size-warp", "threads", "warps", "mixed-thread", "lanes", "latency",
          "churn-same", "churn-other", "utilisation", "page-map", "requests", "memory", "work",
          "graphs", "traces", "others"]


def operation(name, samples, **at):
    return {"name": name, "at": at, "ns_per_op": sorted(samples)[len(samples) // 2],
            "samples_ns_per_op": samples}


def results(*operations, check="ok"):
    return {"backend": "simt", "device": "d", "revision": "r", "options": {}, "machine": {},
            "results": [{"name": "suite/case", "suite": "suite", "check": check, "params": {},
                         "metrics": {}, "operations": list(operations)}]}


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, content):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def script(self, name, *arguments):
        return subprocess.run([os.path.join(ROOT, "bench", name), *arguments], text=True,
                              capture_output=True, check=False, timeout=300)


class Confidence(unittest.TestCase):
    def test_student(self):
        for confidence, freedom, expected in ((0.95, 1, 12.706), (0.95, 10, 2.228),
                                              (0.99, 3, 5.841), (0.95, 1e6, 1.960)):
            self.assertAlmostEqual(student_quantile(confidence, freedom), expected, places=3)

    def test_intervals(self):
        ratio, low, high = ratio_interval([10, 11, 9, 10], [20, 22, 18, 20], 0.99)
        self.assertAlmostEqual(ratio, 2)
        self.assertTrue(1.5 < low < 2 < high < 2.6)
        self.assertIsNone(ratio_interval([10], [20, 20], 0.99))
        self.assertEqual(ratio_interval([5, 5], [5, 5], 0.99), (1, 1, 1))


class Compare(Files):
    def compare(self, before, after, *more):
        return self.script("compare", self.path("a.json", before), self.path("b.json", after), *more)

    def test_a_regression_is_flagged_and_fails_only_when_asked(self):
        before = results(operation("malloc", [10, 10.1, 9.9, 10]))
        after = results(operation("malloc", [15, 15.1, 14.9, 15]))
        got = self.compare(before, after)
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertRegex(got.stdout, r"suite/case +malloc +10 +15 +1\.50 .* SLOWER")
        self.assertEqual(self.compare(before, after, "--fail-on-regression").returncode, 1)
        self.assertIn("faster", self.compare(after, before).stdout)
        self.assertEqual(self.compare(after, before, "--fail-on-regression").returncode, 0)

    def test_noise_is_no_regression(self):
        got = self.compare(results(operation("malloc", [10, 14, 8, 11])),
                           results(operation("malloc", [12, 16, 9, 13])), "--fail-on-regression")
        self.assertEqual(got.returncode, 0)
        self.assertIn("0 SLOWER", got.stdout)

    def test_operations_are_told_apart_by_what_they_are_at(self):
        got = self.compare(results(operation("malloc", [1, 1], size_bytes=16)),
                           results(operation("malloc", [1, 1], size_bytes=64)))
        self.assertIn("1 operations are not in A", got.stdout)
        self.assertIn("1 operations are not in B", got.stdout)

    def test_failed_checks_and_unlike_machines_are_named(self):
        before, after = results(), results(check="FAILED")
        after["device"] = "another"
        after["machine"] = {"load_average_at_start": 7.5, "cpus": 2}
        got = self.compare(before, after, "--fail-on-regression")
        self.assertIn("NOT ALIKE, device", got.stdout)
        self.assertRegex(got.stdout, r"BUSY: .*b\.json was measured at a load of 7\.5 on 2")
        self.assertIn("CHECK FAILED in B alone: suite/case", got.stdout)
        self.assertEqual(got.returncode, 1)

    def test_bad_files(self):
        for text in ("", "[]", "{}", "no json"):
            got = self.compare(results(), text)
            self.assertEqual(got.returncode, 2, text)
            self.assertIn("b.json", got.stderr)
        self.assertEqual(self.script("compare", "/nonexistent", "/nonexistent").returncode, 2)

    def test_a_real_file_is_like_itself(self):
        got = self.script("compare", RESULTS, RESULTS, "--fail-on-regression")
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn(" 0 faster", got.stdout)


class Report(Files):
    @classmethod
    def setUpClass(cls):
        cls.out = tempfile.TemporaryDirectory()
        got = subprocess.run([os.path.join(ROOT, "bench", "report"), "--out", cls.out.name, RESULTS],
                             text=True, capture_output=True, check=False, timeout=300)
        assert got.returncode == 0, got.stdout + got.stderr
        with open(os.path.join(cls.out.name, "report.html"), encoding="utf-8") as file:
            cls.page = file.read()

    @classmethod
    def tearDownClass(cls):
        cls.out.cleanup()

    def test_every_chart_is_on_the_page_and_a_png(self):
        self.assertEqual(re.findall(r'<figure id="([^"]*)"', self.page), CHARTS)
        for name in CHARTS:
            with open(os.path.join(self.out.name, name + ".png"), "rb") as file:
                self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n", name)

    def test_the_page_needs_nothing_else(self):
        for outside in re.findall(r'(?:src|href)="([^"]{0,60})', self.page):
            self.assertTrue(outside.startswith("data:"), outside)
        self.assertNotIn("@import", self.page)

    def test_the_browser_shows_every_chart(self):
        if not CHROMIUM:
            self.skipTest("no chromium")
        with tempfile.TemporaryDirectory() as profile:
            got = subprocess.run(
                [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
                 f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom",
                 "file://" + os.path.join(self.out.name, "report.html")],
                text=True, capture_output=True, check=False, timeout=300)
        shown = re.search(r'data-charts-shown="(\d+)"', got.stdout)
        self.assertIsNotNone(shown, got.stderr[-2000:])
        self.assertEqual(int(shown.group(1)), len(CHARTS))

    def test_texts_of_results_cannot_break_the_page(self):
        with open(RESULTS, encoding="utf-8") as file:
            data = json.load(file)
        hostile = copy.deepcopy(data)
        hostile["device"] = "<script>alert(1)</script>"
        hostile["results"][0]["detail"] = "<img src=http://x>"
        got = self.script("report", "--out", self.folder.name, self.path("h.json", hostile))
        self.assertEqual(got.returncode, 0, got.stderr)
        with open(os.path.join(self.folder.name, "report.html"), encoding="utf-8") as file:
            page = file.read()
        self.assertNotIn("<script>alert", page)
        self.assertNotIn("<img src=http", page)

    def test_files_without_anything_to_show(self):
        got = self.script("report", "--out", self.folder.name,
                          self.path("r.json", results(operation("malloc", [1, 2]))))
        self.assertEqual(got.returncode, 2)
        self.assertIn("nothing in it that a chart could show", got.stderr)
        self.assertEqual(self.script("report", self.path("x.json", "x")).returncode, 2)


if __name__ == "__main__":
    RESULTS = sys.argv.pop(1)
    CHROMIUM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    unittest.main()
