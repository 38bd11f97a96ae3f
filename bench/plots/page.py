"""The HTML page: everything in one file, charts as SVG inside of it."""

import base64
import html

from results import at_text

STYLE = """body{font:15px/1.45 sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#111}
figure{margin:2em 0}figure img{max-width:100%;height:auto}figcaption{color:#333}
table{border-collapse:collapse;font-size:13px}td,th{padding:.15em .7em;text-align:left;
border-bottom:1px solid #ccc}td.n{text-align:right;font-variant-numeric:tabular-nums}
.FAILED{font-weight:bold;background:#eee}summary{cursor:pointer}"""

# Says in the document itself how many charts the browser has drawn, for whoever checks the page.
SCRIPT = """addEventListener('load',()=>{document.body.dataset.chartsShown=
[...document.querySelectorAll('figure img')].filter(i=>i.complete&&i.naturalWidth>0&&
i.getBoundingClientRect().width>50).length})"""


def _rows(pairs):
    return "".join(f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
                   for name, value in pairs)


def _number(value):
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""


def _operations(results):
    out = ["<table><tr><th>case</th><th>operation</th><th>at</th><th>ns/op</th><th>p5</th><th>p95"
           "</th><th>noise</th><th>cold</th><th>check</th></tr>"]
    for case in results.cases:
        for one in case.get("operations", []) or [None]:
            one = one or {"name": "", "at": {}}
            noise = one.get("noise_percent")
            cells = [_number(one.get(k)) for k in ("ns_per_op", "p5_ns_per_op", "p95_ns_per_op")]
            cells += [f"{noise:.0f} %" if noise is not None else "",
                      _number(one.get("cold_ns_per_op"))]
            out.append(f"<tr class={html.escape(case['check'])}><td>{html.escape(case['name'])}</td>"
                       f"<td>{html.escape(one['name'])}</td>"
                       f"<td>{html.escape(at_text(one['at']))}</td>"
                       + "".join(f"<td class=n>{cell}</td>" for cell in cells)
                       + f"<td>{html.escape(case['check'])}"
                       + (f": {html.escape(case['detail'])}" if case.get("detail") else "")
                       + "</td></tr>")
    return "".join(out) + "</table>"


def _measured(sections, what, size):
    """(label, microseconds) of a million objects on the GPUs of this report."""
    for results, _ in sections:
        if results.data.get("backend") != "cuda":
            continue
        for _, case in results.matching("survey/gallatin-sizes"):
            for one in case["operations"]:
                if case["name"].endswith("/warpheap") and one["name"] == what \
                        and one["at"].get("size_bytes") == size:
                    yield results.data.get("device", "?"), one["ns_per_op"] * 1e6 / 1000


def _estimates(results, sections):
    rows = []
    for case in results.cases:
        if not case["name"].startswith("device/model/") or case["params"].get("active_lanes") != 32:
            continue
        size = case["params"].get("size_bytes", "?")
        for what in ("malloc", "free"):
            counted = ", ".join(
                f"{_number(case['metrics'].get(f'{what}_per_warp_call_{name}')) or '?'} {text}"
                for name, text in (("atomics", "atomics"), ("loads", "loads"),
                                   ("l2_sectors", "sectors"),
                                   ("chain_of_dependent_accesses", "in a row")))
            estimates = ", ".join(f"{name.split('_')[1]}: {_number(value)} us"
                                  for name, value in case["metrics"].items()
                                  if name.startswith("ESTIMATE") and name.endswith(
                                      f"_{what}_1M_objects_us"))
            measured = ", ".join(f"{device}: {_number(us)} us"
                                 for device, us in _measured(sections, what, size)) or "none yet"
            rows.append(f"<tr><td>{what} {size} B</td><td>{counted}</td><td>{estimates}</td>"
                        f"<td>{html.escape(measured)}</td></tr>")
    if not rows:
        return ""
    return ("<h3>Counted accesses of a full warp, and ESTIMATES made of them</h3><p>Counted on the "
            "executor; times for a million objects are estimated from published latencies, without "
            "launch and contention (bench/README.md).</p><table><tr><th>call</th><th>counted</th>"
            "<th>ESTIMATE</th><th>measured</th></tr>" + "".join(rows) + "</table>")


def render(sections):
    """sections: (Results, [(id, svg bytes, caption)])."""
    body = []
    for results, charts in sections:
        data = results.data
        failed = sum(case["check"] == "FAILED" for case in results.cases)
        body.append(f"<h2>{html.escape(results.label)}</h2>")
        if failed:
            body.append(f"<p class=FAILED>{failed} cases FAILED their checks: their times mean "
                        "nothing.</p>")
        machine = data.get("machine", {})
        if machine.get("load_average_at_start", 0) > 0.5 * machine.get("cpus", 1):
            body.append(f"<p>The machine was busy: a load of {machine['load_average_at_start']:.1f} "
                        f"on {machine['cpus']} processors at the start.</p>")
        if not data.get("complete", True):
            body.append("<p class=FAILED>This run was stopped before its end.</p>")
        body.append("<details><summary>What it ran on</summary><table>"
                    + _rows([("file", results.path), ("why this backend", data.get("reason", ""))]
                            + list(data.get("machine", {}).items())
                            + [(f"option {k}", v) for k, v in data.get("options", {}).items()])
                    + "</table></details>")
        for name, svg, caption in charts:
            image = base64.b64encode(svg).decode("ascii")
            body.append(f'<figure id="{name}"><img alt="{html.escape(caption)}" '
                        f'src="data:image/svg+xml;base64,{image}"><figcaption>'
                        f"{html.escape(caption)}</figcaption></figure>")
        body.append(_estimates(results, sections))
        body.append("<details><summary>Every operation</summary>" + _operations(results)
                    + "</details>")
    return ("<!doctype html><html lang=en><meta charset=utf-8><title>warpheap: benchmark</title>"
            f"<style>{STYLE}</style><body><h1>warpheap: benchmark</h1>"
            "<p>Times are medians of warm repetitions; noise: another run of the build lies within it with "
            "95 %. Executor and GPU do not compare.</p>" + "".join(body)
            + f"<script>{SCRIPT}</script></body></html>\n")
