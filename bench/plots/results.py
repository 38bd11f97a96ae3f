"""Result files of warpheap_bench: reading them, and finding operations and curves in them."""

import json


class ResultError(Exception):
    """A file that is no result of the benchmark; the text names it."""


class Results:
    """One JSON file."""

    def __init__(self, path):
        self.path = path
        try:
            with open(path, encoding="utf-8") as file:
                self.data = json.load(file)
        except (OSError, ValueError) as error:
            raise ResultError(f"{path}: {error}") from error
        if not isinstance(self.data, dict) or "results" not in self.data:
            raise ResultError(f"{path}: no results of warpheap_bench in it")

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
            for operation in case.get("operations", []):
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
    for one in case.get("series", []):
        if one["name"] == name and one["points"]:
            return [p[0] for p in one["points"]], [p[1] for p in one["points"]]
    return None
