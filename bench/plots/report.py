"""Makes the report: one HTML page and a PNG for each chart. Started by bench/report."""

import argparse
import io
import os
import sys

from charts import CHARTS
from page import render
from results import ResultError, Results
from style import plt


def main():
    parser = argparse.ArgumentParser(
        prog="bench/report",
        description="Makes report.html, a page that needs no network, and a PNG of each chart from "
                    "result files of warpheap_bench (--json).")
    parser.add_argument("files", metavar="FILE.json", nargs="+")
    parser.add_argument("--out", metavar="DIR", default="bench-report",
                        help="folder for the results (bench-report)")
    wanted = parser.parse_args()
    sections = []
    os.makedirs(wanted.out, exist_ok=True)
    for number, path in enumerate(wanted.files, 1):
        results = Results(path)
        prefix = "" if len(wanted.files) == 1 else f"{number}-"
        charts = []
        for name, draw in CHARTS:
            try:
                made = draw(results)
            except (KeyError, TypeError, ValueError) as error:
                raise ResultError(f"{path}: the chart {name} cannot be drawn, since a value in it is "
                                  f"not as warpheap_bench writes it: {error!r}") from error
            if not made:
                plt.close("all")
                continue
            figure, caption = made
            svg = io.BytesIO()
            figure.savefig(svg, format="svg", metadata={"Date": None})
            figure.savefig(os.path.join(wanted.out, f"{prefix}{name}.png"), dpi=130)
            plt.close("all")
            charts.append((prefix + name, svg.getvalue(), caption))
        if not charts:
            raise ResultError(f"{path}: nothing in it that a chart could show; "
                              "bench/run --suite all makes what is needed")
        sections.append((results, charts))
    page = os.path.join(wanted.out, "report.html")
    with open(page, "w", encoding="utf-8") as file:
        file.write(render(sections))
    print(f"{page}: {sum(len(charts) for _, charts in sections)} charts, also as PNG beside it")


if __name__ == "__main__":
    try:
        main()
    except (ResultError, OSError) as problem:
        print(f"bench/report: {problem}", file=sys.stderr)
        sys.exit(2)
