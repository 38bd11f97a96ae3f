"""bench/compare, bench/report, bench/gpu and the benchmark as a program: started by tests/run, which
gives a result file of a real run.

usage: bench_scripts_test.py RESULTS.json [CHROMIUM]
WARPHEAP_BENCH_PROGRAM: the benchmark, where it is not build/release/bench/warpheap_bench.
"""

import copy
import json
import math
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench", "plots"))
sys.dont_write_bytecode = True
from confidence import (common_variance, compare_rows, digamma, discoveries, ratios,  # noqa: E402
                        student_quantile, trigamma)

RESULTS, CHROMIUM = "", ""
PROGRAM = os.environ.get("WARPHEAP_BENCH_PROGRAM",
                         os.path.join(ROOT, "build", "release", "bench", "warpheap_bench"))

# None of them is a result of the benchmark.
BAD_FILES = ["", "[]", "{}", "no json", "[" * 100000, '{"results": 5}', '{"results": [1]}',
             '{"results": [{"name": "x"}]}', '{"results": [{"name": 1, "check": "ok"}]}',
             '{"results": [{"name": "x", "check": "ok", "operations": 5}]}',
             '{"results": [{"name": "x", "check": "ok", "operations": [{"name": "m"}]}]}',
             '{"results": [{"name": "x", "check": "ok", "operations": [{"name": "m",'
             ' "ns_per_op": 1, "passes_ns_per_op": [["a"]]}]}]}',
             '{"results": [{"name": "x", "check": "ok", "operations": [{"name": "m",'
             ' "ns_per_op": NaN}]}]}',
             '{"results": [{"name": "x", "check": "ok", "series": [{"name": "s",'
             ' "points": [[1]]}]}]}',
             '{"results": [], "machine": {"cpus": "2"}}']

# Every chart that issues of speed, space and time are shown by.
CHARTS = ["size-thread", "size-warp", "threads", "warps", "mixed-thread", "lanes", "latency",
          "churn-same", "churn-other", "utilisation", "page-map", "requests", "memory", "work",
          "graphs", "traces", "others"]


def operation(name, passes, cpu=None, **at):
    out = {"name": name, "at": at, "ns_per_op": sorted(passes)[len(passes) // 2],
           "passes_ns_per_op": [[one] for one in passes]}
    if cpu:
        out["passes_cpu_ns_per_op"] = [[one] for one in cpu]
    return out


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

    def test_gamma(self):
        self.assertAlmostEqual(digamma(1), -0.5772156649, places=8)
        self.assertAlmostEqual(trigamma(1), math.pi ** 2 / 6, places=8)
        self.assertAlmostEqual(trigamma(0.5), math.pi ** 2 / 2, places=8)

    def test_intervals(self):
        one, = ratios([([10, 11, 9, 10], [20, 22, 18, 20])])
        low, high = one.interval(0.99)
        self.assertAlmostEqual(one.ratio, 2)
        self.assertTrue(1.5 < low < 2 < high < 2.6)
        self.assertEqual(ratios([([10], [20, 20])]), [None])
        same, = ratios([([5, 5], [5, 5])])
        self.assertEqual((same.ratio, *same.interval(0.99)), (1, 1, 1))
        self.assertEqual(same.probability_beyond(0.05), 1)
        # Without a limit it is the two-sided probability of Student's test.
        low, high = one.interval(1 - one.probability_beyond(0))
        self.assertAlmostEqual(low, 1, places=6)
        self.assertLess(one.probability_beyond(0), one.probability_beyond(0.1))

    def test_common_variance(self):
        # Rows of one variance say so with many degrees of freedom; rows of very different ones do not.
        chance = random.Random(1)

        def variance(sigma, freedom):
            return sum(chance.gauss(0, sigma) ** 2 for _ in range(freedom)) / freedom
        freedom, found = common_variance([variance(3, 4) for _ in range(4000)], [4] * 4000)
        self.assertGreater(freedom, 30)
        self.assertAlmostEqual(found / 9, 1, delta=0.1)
        wild = [variance(math.exp(chance.gauss(0, 2)), 4) for _ in range(4000)]
        self.assertLess(common_variance(wild, [4] * 4000)[0], 1.5)
        self.assertEqual(common_variance([1, 2], [4, 4])[0], 0)

    def test_discoveries(self):
        self.assertEqual(discoveries([], 0.01), [])
        self.assertEqual(discoveries([0.5, 0.004, 0.0001], 0.01), [False, True, True])
        self.assertEqual(discoveries([0.009] + [0.5] * 99, 0.01), [False] * 100)


class Runs:
    """Made-up runs of many rows, the first half of them baselines: each has its own noise, passes share
    the drift of the machine, and runs differ by more than their passes do."""

    def __init__(self, seed, rows=300, passes=4):
        self.chance = random.Random(seed)
        self.passes = passes
        self.noise = [0.02 * math.exp(self.chance.gauss(0, 0.5)) for _ in range(rows)]
        self.control = [row < rows / 2 for row in range(rows)]

    def run(self, slower=(), times=1.2, drift=0.01, of_run=0.01):
        drifts = [self.chance.gauss(0, drift) for _ in range(self.passes)]
        out = []
        for row, noise in enumerate(self.noise):
            # What a run has once: where its memory lies, which core it got.
            middle = math.log(100 * times if row in slower else 100)
            middle += self.chance.gauss(0, of_run)
            cpu = [math.exp(middle + d + self.chance.gauss(0, noise)) for d in drifts]
            clock = [one * (1 + self.chance.expovariate(1)) for one in cpu]  # others have the cores
            out.append(operation("op", clock, cpu, row=row))
        return out


class FalseAlarms(unittest.TestCase):
    def compared(self, seed, slower=(), **how):
        runs = Runs(seed)
        before, after = runs.run(**how), runs.run(slower, **how)
        return compare_rows(list(zip(before, after)), 0.99, 0.05, runs.control)

    def test_two_runs_of_one_build_agree(self):
        for how in ({}, {"drift": 0.05, "of_run": 0.05}):  # a calm machine, and one that is not
            comparisons, alarms, outside, rows = 60, 0, 0, 0
            for seed in range(comparisons):
                got = self.compared(seed, **how)
                alarms += any(one.verdict in ("SLOWER", "faster") for one in got)
                outside += sum(not one.low <= 1 <= one.high for one in got)
                rows += len(got)
            self.assertLessEqual(alarms, 3, how)  # 0.6 are expected; 4 have a probability of 0.3 %
            self.assertLessEqual(outside / rows, 0.01, how)

    def test_a_slow_path_is_found_among_the_rest(self):
        slower, found, wrong = set(range(200, 240)), 0, 0
        comparisons = 10
        for seed in range(comparisons):
            for row, one in enumerate(self.compared(seed, slower)):
                found += one.verdict == "SLOWER" and row in slower
                wrong += one.verdict in ("SLOWER", "faster") and row not in slower
        self.assertGreater(found, 0.6 * comparisons * len(slower))
        self.assertLessEqual(wrong, 0.02 * found)

    def test_a_change_of_everything_is_found_beside_the_baselines(self):
        got = self.compared(1, set(range(150, 300)))
        self.assertEqual({one.verdict for one in got[:150]}, {"baseline"})
        self.assertGreater(sum(one.verdict == "SLOWER" for one in got[150:]), 100)

    def test_repetitions_of_one_pass_are_no_evidence(self):
        # A hundred alike repetitions in each of two passes, and a machine that was slow once.
        def run(*passes):
            return {"passes_ns_per_op": [[one] * 100 for one in passes]}
        one, = compare_rows([(run(100, 101), run(100, 140))], 0.99, 0.05)
        self.assertEqual(one.verdict, "unclear")

    def test_cpu_time_judges_where_it_is_known(self):
        before = operation("op", [100, 300, 150, 400], [100, 101, 100, 99])
        after = operation("op", [400, 100, 200, 300], [130, 131, 130, 129])
        one, = compare_rows([(before, after)], 0.99, 0.05)
        self.assertEqual((one.verdict, one.clock), ("SLOWER", "cpu"))
        one, = compare_rows([(operation("op", [1, 1.01, 1]), operation("op", [2, 2.02, 2]))], 0.99,
                            0.05)
        self.assertEqual((one.verdict, one.clock), ("SLOWER", "clock"))


class Compare(Files):
    def compare(self, before, after, *more):
        return self.script("compare", self.path("a.json", before), self.path("b.json", after), *more)

    def test_a_regression_is_flagged_and_fails_only_when_asked(self):
        before = results(operation("malloc", [10, 10.1, 9.9, 10]))
        after = results(operation("malloc", [15, 15.1, 14.9, 15]))
        got = self.compare(before, after)
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertRegex(got.stdout, r"suite/case +malloc +10 +15 +1\.50 .* clock +SLOWER")
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
        for text in BAD_FILES:
            got = self.compare(results(operation("malloc", [1, 2])), text)
            self.assertEqual(got.returncode, 2, text)
            self.assertRegex(got.stderr, "^bench/compare: .*b.json[^\n]*\n$")
        self.assertEqual(self.script("compare", "/nonexistent", "/nonexistent").returncode, 2)

    def test_files_with_nothing_in_common(self):
        got = self.compare(results(operation("malloc", [1, 2])), results(operation("free", [1, 2])))
        self.assertEqual(got.returncode, 2)
        self.assertIn("no operation is in both", got.stderr)

    def test_bad_options(self):
        for more in (["--threshold", "nan"], ["--threshold", "-1"], ["--confidence", "nan"],
                     ["--confidence", "1"], ["--threshold", "inf"], ["--no"], ["c.json"]):
            got = self.compare(results(), results(), *more)
            self.assertEqual(got.returncode, 2, more)
            self.assertIn("bench/compare: error: ", got.stderr)

    def test_rows_of_other_allocators_are_baselines(self):
        def run(ns, name):
            out = results(operation("malloc", [ns, ns * 1.01, ns]))
            out["results"][0]["name"] = name
            return out
        for name in ("survey/mixed/thread/mine", "real/trace-perl/libc", "device/lanes/bump"):
            got = self.compare(run(10, name), run(20, name), "--fail-on-regression")
            self.assertEqual((got.returncode, "1 baseline" in got.stdout), (0, True), name)
        for name in ("throughput/16", "churn/same-50/warpheap", "device/model/8B-32-lanes"):
            got = self.compare(run(10, name), run(20, name), "--fail-on-regression")
            self.assertEqual((got.returncode, "1 SLOWER" in got.stdout), (1, True), name)

    def test_rows_of_go_are_left_out(self):
        def run(ns):
            out = results(operation("warpheap", [ns, ns * 1.01, ns]), operation("go", [ns, 9 * ns, ns]))
            out["results"][0]["name"] = "host/pairs/1/touched"
            return out
        got = self.compare(run(10), run(20), "--fail-on-regression")
        self.assertIn("1 rows of Go's runtime are not compared", got.stdout)
        self.assertEqual((got.returncode, "1 SLOWER, 0 faster" in got.stdout), (1, True), got.stdout)

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
        # Enough for one chart: all of them take a quarter of a minute.
        hostile["results"] = [one for one in data["results"]
                              if one["name"].startswith("survey/scaling/")]
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
        for text in BAD_FILES[-3:]:  # bench/compare reads them by the same code
            got = self.script("report", "--out", self.folder.name, self.path("x.json", text))
            self.assertEqual(got.returncode, 2, text)
            self.assertRegex(got.stderr, "^bench/report: .*x.json[^\n]*\n$")
        # What only a chart looks at.
        bad = results(operation("malloc", [1], objects=1, size_bytes="a"),
                      operation("malloc", [1], objects=1, size_bytes=1))
        bad["results"][0]["name"] = "survey/scaling/thread/warpheap"
        got = self.script("report", "--out", self.folder.name, self.path("y.json", bad))
        self.assertEqual(got.returncode, 2)
        self.assertIn("y.json: the chart threads cannot be drawn", got.stderr)

    def test_allocators_look_different(self):
        python = subprocess.run(
            ["bash", "-c", "source tests/tools/setup.bash && find_plotting_python"], text=True,
            capture_output=True, check=True, cwd=ROOT).stdout.strip()
        code = ("import style; names = style.ORDER + ['gallatin', 'ouroboros', 'mallocmc', 'halloc'];"
                "print(len({(s['marker'], str(s['linestyle'])) for s in map(style.line_style, names)}),"
                "len({(b['hatch'], b['facecolor']) for b in map(style.bar_style, names)}))")
        got = subprocess.run([python, "-B", "-c", code], text=True, capture_output=True, check=True,
                             cwd=os.path.join(ROOT, "bench", "plots"))
        self.assertEqual(got.stdout.split(), ["11", "11"])


class Program(Files):
    """The benchmark itself, started as a user does."""

    def bench(self, *arguments, **how):
        return subprocess.run([PROGRAM, "--backend", "simt", *arguments], text=True,
                              capture_output=True, check=False, timeout=300, **how)

    def test_every_case_counts_its_calls(self):
        with open(RESULTS, encoding="utf-8") as file:
            cases = json.load(file)["results"]
        for case in cases:
            if case["check"] == "ok" and not case["name"].startswith(
                    ("survey/creation/", "create", "hardware/")):
                self.assertGreater(case["metrics"]["mallocs"], 0, case["name"])
                self.assertIn("null_pointers", case["metrics"], case["name"])
        self.assertGreater(sum(case["metrics"].get("null_pointers", 0) for case in cases), 0)

    def test_a_small_heap_gives_null_pointers_and_no_crash(self):
        path = os.path.join(self.folder.name, "small.json")
        got = self.bench("--suite", "device", "--quick", "--passes", "1", "--reserve", "8M", "--filter",
                         "^device/(host-calls|lanes|requests)/(warpheap|libc)", "--json", path)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        with open(path, encoding="utf-8") as file:
            nulls = {case["name"]: case["metrics"]["null_pointers"]
                     for case in json.load(file)["results"]}
        self.assertEqual(nulls.pop("device/host-calls/libc"), 0)
        self.assertEqual(len(nulls), 3)
        for name, count in nulls.items():
            self.assertGreater(count, 0, name)
            self.assertRegex(got.stdout, rf"{name} .* {count} ")

    def test_ctrl_c_leaves_the_finished_results(self):
        path = os.path.join(self.folder.name, "stopped.json")
        with subprocess.Popen([PROGRAM, "--backend", "simt", "--quick", "--passes", "1000",
                               "--filter", "^(create|pairs/16)", "--json", path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            for line in run.stdout:  # the head of the table: the run has begun
                if line.startswith("----"):
                    break
            for _ in range(600):
                if os.path.exists(path) and os.path.getsize(path):
                    break
                time.sleep(0.05)
            run.send_signal(signal.SIGINT)
            text, _ = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130)
        self.assertIn("interrupted", text)
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.assertFalse(data["complete"])
        self.assertEqual(data["results"][0]["name"], "create")
        self.assertGreater(data["results"][0]["operations"][0]["ns_per_op"], 0)

    def test_a_case_without_room_for_its_heap_is_skipped(self):
        got = self.bench("--quick", "--reserve", "64G", "--filter", "^pairs/16", preexec_fn=lambda:
                         resource.setrlimit(resource.RLIMIT_AS, (1 << 35, 1 << 35)))
        self.assertEqual((got.returncode, "reserve=SIZE" in got.stdout), (3, True), got)

    def test_bad_options_are_named(self):
        missing = os.path.join(self.folder.name, "missing")
        for arguments in (["--nope"], ["--suite", "x"], ["--passes", "0"], ["--json", missing + "/x"],
                          ["--filter", "(["], ["--filter", "no such case"], ["--graph", missing],
                          ["--suite", "real", "--graph", missing], ["--reserve", "1K"],
                          ["--suite", "all", "--quick", "--trace", missing], ["--csv", "/"]):
            got = self.bench(*arguments)
            self.assertIn(got.returncode, (2, 3), arguments)
            self.assertRegex(got.stderr, "^warpheap_bench: [^\n]+\n$")
            self.assertEqual(got.stdout, "", arguments)


class Gpu(Files):
    """bench/gpu with programs that do what real ones do where a GPU misbehaves."""

    TESTS = """#!/bin/bash
case $* in
  *--gtest_list_tests*) printf 'Running main()\\nA.\\n  One\\n  Two\\nB.\\n  Three\\n  Four\\n' ;;
  *--gtest_filter=B.Three) exit 1 ;;
  *--gtest_filter=B.Four) echo '[       OK ] B.Four (1 ms)' ;;
  *--gtest_filter=*) exit 2 ;;
  *) %s ;;
esac
"""

    def gpu(self, tests, step, **environment):
        """Runs a step with a program that does `tests` when it is to run all of them."""
        def program(name, text):
            os.chmod(self.path(name, text), 0o755)

        program("nvidia-smi", "#!/bin/sh\necho A GPU, 1.2\n")
        program("warpheap_tests_cuda", self.TESTS % tests)
        program("warpheap_bench", "#!/bin/sh\nexit 3\n")
        program("compute-sanitizer", "#!/bin/sh\necho $WARPHEAP >&2\nshift 4\nexec \"$@\"\n")
        program("revision", "r1")
        return subprocess.run(
            [os.path.join(ROOT, "bench", "gpu"), "--prebuilt", self.folder.name, step],
            env={**os.environ, "PATH": self.folder.name + ":" + os.environ["PATH"],
                 "WARPHEAP_RESULTS": os.path.join(self.folder.name, "results"), **environment},
            capture_output=True, text=True, check=False, timeout=100)

    def test_tests_that_pass(self):
        got = self.gpu("echo '[       OK ] A.One (1 ms)'", "tests")
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        self.assertNotIn("alone", got.stdout)

    def test_nothing_but_skipped_tests_is_a_failure(self):
        got = self.gpu("echo '[  SKIPPED ] A.One (0 ms)'", "tests")
        self.assertEqual(got.returncode, 1)
        self.assertIn("no test has passed", got.stdout)

    def test_after_a_failure_the_others_run_alone(self):
        got = self.gpu("echo '[       OK ] A.One (1 ms)'; echo '[  SKIPPED ] A.Two (0 ms)'; exit 1",
                       "tests")
        self.assertEqual(got.returncode, 1)
        self.assertIn("FAILED alone: B.Three\npassed alone: B.Four\n", got.stdout)
        self.assertNotIn("A.", got.stdout.split("passed alone")[0].split("FAILED alone")[1])

    def test_a_program_that_hangs_is_ended(self):
        got = self.gpu("echo '[       OK ] A.One (1 ms)'; exec sleep 100", "tests",
                       WARPHEAP_GPU_SECONDS="3")
        self.assertEqual(got.returncode, 124)
        self.assertIn("not done after 2 s", got.stdout)
        self.assertIn("no time for 3 more", got.stdout)

    def test_the_sanitizer_gives_kernels_time(self):
        ok = "echo '[       OK ] A.One (1 ms)'"
        got = self.gpu(ok, "sanitizer", WARPHEAP_GPU_FILTER="B.Four", WARPHEAP_GPU_TOOLS="a b")
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        self.assertEqual(got.stdout.count("timeout_us=500000"), 2)
        got = self.gpu(ok, "sanitizer", WARPHEAP_GPU_FILTER="B.Three")
        self.assertEqual(got.returncode, 1)

    def test_a_backend_that_cannot_be_used_is_a_failure(self):
        self.assertEqual(self.gpu("true", "device").returncode, 3)


if __name__ == "__main__":
    RESULTS = sys.argv.pop(1)
    CHROMIUM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    unittest.main()
