"""Result files of warpheap_bench: reading them, and finding operations and curves in them."""

import json


class ResultError(Exception):
    """A file that is no result of the benchmark; the text names it."""


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _no_constant(name):
    raise ValueError(f"{name} is no number of JSON")


# Members of the objects in a file: their types, and what stands for a missing one. None: there must
# be one.
_RUN = {"results": (list, None), "machine": (dict, {}), "options": (dict, {}),
        "complete": (bool, True)}
_CASE = {"name": (str, None), "check": (str, None), "detail": (str, ""), "params": (dict, {}),
         "metrics": (dict, {}), "operations": (list, []), "series": (list, [])}
_OPERATION = {"name": (str, None), "at": (dict, {}), "ns_per_op": (float, None)}
_SERIES = {"name": (str, None), "x": (str, ""), "y": (str, ""), "points": (list, [])}
_TIMES = ("cold_ns_per_op", "p5_ns_per_op", "p95_ns_per_op", "noise_percent", "cpu_ns_per_op",
          "cpu_noise_percent")
_PASSES = ("passes_ns_per_op", "passes_cpu_ns_per_op")


class Results:
    """One JSON file, with every member that the scripts use, of the type that it is to have."""

    def __init__(self, path):
        self.path = path
        try:
            with open(path, encoding="utf-8") as file:
                self.data = json.load(file, parse_constant=_no_constant)
        except (OSError, ValueError, RecursionError) as error:
            raise ResultError(f"{path}: {error}") from error
        if not isinstance(self.data, dict) or "results" not in self.data:
            raise ResultError(f"{path}: no results of warpheap_bench in it")
        self._check_members(self.data, _RUN, "the file")
        machine = self.data["machine"]
        for name in ("load_average_at_start", "cpus"):
            self._require(_number(machine.get(name, 0)), f"machine: '{name}' is no number")
        for number, case in enumerate(self.cases, 1):
            self._check_members(case, _CASE, f"result {number}")
            for one in case["operations"]:
                self._check_operation(one, f"an operation of {case['name']}")
            for one in case["series"]:
                where = f"a series of {case['name']}"
                self._check_members(one, _SERIES, where)
                self._require(all(isinstance(p, list) and len(p) == 2 and all(map(_number, p))
                                  for p in one["points"]), f"{where}: a point is no pair of numbers")

    def _require(self, condition, problem):
        if not condition:
            raise ResultError(f"{self.path}: not as warpheap_bench writes it: {problem}")

    def _check_members(self, value, members, where):
        self._require(isinstance(value, dict), f"{where} is no object")
        for name, (kind, default) in members.items():
            if default is not None:
                value.setdefault(name, type(default)(default))
            found = value.get(name)
            self._require(_number(found) if kind is float else isinstance(found, kind),
                          f"{where} has no good '{name}'")

    def _check_operation(self, one, where):
        self._check_members(one, _OPERATION, where)
        for name in _TIMES:
            self._require(_number(one.get(name, 0)), f"{where}: '{name}' is no number")
        self._require(one["ns_per_op"] >= 0, f"{where}: a time below 0")
        for name in _PASSES:
            passes = one.get(name, [])
            self._require(isinstance(passes, list) and all(
                isinstance(samples, list) and all(_number(s) and s >= 0 for s in samples)
                for samples in passes), f"{where}: '{name}' are no lists of times")

    @property
    def cases(self):
        return self.data["results"]

    @property
    def label(self):
        return f"{self.data.get('backend', '?')}, {self.data.get('device', '?')}, " \
               f"{self.data.get('revision', '?')}"

    def operations(self):
        """(case, operation) of every timed operation."""
        for case in self.cases:
            for operation in case["operations"]:
                yield case, operation

    def keyed(self):
        """Operations by what identifies them in another run: name of the case, operation, at."""
        return {(case["name"], operation["name"], at_text(operation["at"])): operation
                for case, operation in self.operations()}

    def matching(self, prefix):
        """(allocator, case) of the cases named prefix/ALLOCATOR that have been run."""
        for case in self.cases:
            name, _, allocator = case["name"].rpartition("/")
            if name == prefix and case["check"] != "skipped":
                yield allocator, case


def at_text(at):
    return " ".join(f"{name}={value}" for name, value in at.items())


def curve(case, name):
    """The points of a series of a case as two lists; None if it has none."""
    for one in case["series"]:
        if one["name"] == name and one["points"]:
            return [p[0] for p in one["points"]], [p[1] for p in one["points"]]
    return None
