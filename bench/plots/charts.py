"""The charts of the report. Each takes Results and returns (figure, caption), or None when the run has
nothing to show in it."""

import math

from results import curve
from style import bar_style, line_style, panels, place


def _by_allocator(results, prefix):
    return sorted(results.matching(prefix), key=lambda pair: place(pair[0]))


def _rate_lines(axes, results, prefix, operation, x_name, chosen):
    """Operations a second over `x_name`, a line for each allocator, p5 to p95 as bars."""
    drawn = False
    for allocator, case in _by_allocator(results, prefix):
        points = []
        for one in case["operations"]:
            at = one["at"]
            if one["name"] != operation or x_name not in at or not chosen(at) or not one["ns_per_op"]:
                continue
            low = 1e9 / one.get("p95_ns_per_op", one["ns_per_op"])
            high = 1e9 / one.get("p5_ns_per_op", one["ns_per_op"])
            points.append((at[x_name], 1e9 / one["ns_per_op"], low, high))
        if not points:
            continue
        points.sort()
        x, y, low, high = zip(*points)
        axes.errorbar(x, y, yerr=[[max(a - b, 0) for a, b in zip(y, low)],
                                  [max(b - a, 0) for a, b in zip(y, high)]],
                      label=allocator, capsize=2, elinewidth=0.6, **line_style(allocator))
        drawn = True
    if drawn:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_ylabel(f"{operation}, operations per second")
        axes.legend()
    return drawn


def _values(results, prefix, name):
    return sorted({one["at"][name] for _, case in results.matching(prefix)
                   for one in case["operations"] if name in one["at"]})


def _malloc_and_free(results, prefix, size_name, label, caption):
    """A panel for malloc and one for free over a size, where there are most objects; the caption is
    told how many."""
    counts = _values(results, prefix, "objects")
    if not counts:
        return None
    figure, axes = panels(2)
    drawn = False
    for a, what in zip(axes, ("malloc", "free")):
        drawn |= _rate_lines(a, results, prefix, what, size_name,
                             lambda at: at["objects"] == counts[-1])
        a.set_xlabel(label)
    return (figure, caption(f"{counts[-1]:,} objects")) if drawn else None


def over_size(results, each):
    return _malloc_and_free(
        results, f"survey/allocation/{each}", "size_bytes", "size of an object (bytes)",
        lambda objects: f"Throughput over size, {objects}, one a {each}; warm medians, bars from p5 "
                        "to p95. bump: nothing can be faster.")


def over_threads(results, each):
    prefix = f"survey/scaling/{each}"
    sizes = _values(results, prefix, "size_bytes")
    if not sizes:
        return None
    shown = sizes if len(sizes) <= 3 else [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
    figure, axes = panels(len(shown))
    for a, size in zip(axes, shown):
        _rate_lines(a, results, prefix, "malloc", "objects",
                    lambda at, size=size: at["size_bytes"] == size)
        a.set_xlabel(f"allocating {each}s")
        a.set_title(f"{size} bytes")
    return figure, f"Throughput of malloc over the number of {each}s that allocate one object each."


def over_mixed_size(results, each):
    return _malloc_and_free(
        results, f"survey/mixed/{each}", "max_size_bytes", "N (bytes)",
        lambda objects: f"Sizes uniform from 4 to N bytes, {objects}, one a {each}.")


def lanes(results):
    figure, axes = panels(2)
    drawn = False
    for a, kind in zip(axes, ("same", "different")):
        drawn |= _rate_lines(a, results, "device/lanes", "malloc", "active_lanes",
                             lambda at, kind=kind: at.get("sizes") == kind)
        a.set_xlabel("lanes of a warp that allocate at once")
        a.set_title(f"{kind} size in every lane")
    return (figure, "Throughput of malloc when only some lanes of a warp ask for memory.") \
        if drawn else None


def latency(results):
    figure, axes = panels(3)
    drawn = False
    for a, name in zip(axes, ("malloc", "free", "cold_malloc")):
        for allocator, case in _by_allocator(results, "device/latency"):
            points = curve(case, f"{name}_latency")
            if not points:
                continue
            above = [(x, 1 - y) for x, y in zip(*points) if y < 1]
            if above:
                x, y = zip(*above)
                style = line_style(allocator)
                style["markevery"] = max(1, len(x) // 8)
                a.plot(x, y, label=allocator, drawstyle="steps-post", **style)
                drawn = True
        a.set_xscale("log")
        a.set_yscale("log")
        a.set_xlabel("nanoseconds")
        a.set_ylabel("share of calls that take longer")
        a.set_title(name.replace("_", " "))
        if a.lines:
            a.legend()
    return (figure, "Latency of single calls as lanes see it, waiting for other lanes of the warp "
                    "included.") if drawn else None


def _round_lines(axes, results, prefix, series, log=False):
    for allocator, case in _by_allocator(results, prefix):
        points = curve(case, series)
        if points:
            axes.plot(*points, label=allocator, **line_style(allocator))
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("round")
    if axes.lines:
        axes.legend()
    return bool(axes.lines)


def churn(results, kind):
    shown = [p for p in ("50", "75", "90") if list(results.matching(f"churn/{kind}-{p}"))]
    if not shown:
        return None
    figure, axes = panels(2 * len(shown) if len(shown) == 1 else len(shown) + 1)
    for a, percent in zip(axes, shown):
        _round_lines(a, results, f"churn/{kind}-{percent}", "payload_of_heap")
        a.axhline(int(percent) / 100, color="black", linewidth=0.6, linestyle=":")
        a.set_ylim(0, 1)
        a.set_ylabel("live payload / heap")
        a.set_title(f"filled to {percent} % (dotted)")
    _round_lines(axes[len(shown)], results, f"churn/{kind}-{shown[-1]}", "malloc_ns", log=True)
    axes[len(shown)].set_ylabel(f"malloc at {shown[-1]} % (ns/op)")
    what = "the same sizes again" if kind == "same" else "other sizes"
    return figure, f"Use of the heap under churn: fill, free a random half, allocate {what}, again " \
                   "and again."


def churn_utilisation(results):
    shown = [f"churn/{k}-{p}" for k in ("same", "other") for p in ("50", "75", "90")]
    figure, axes = panels(1, width=6)
    marks = iter(["bump", "spinlist", "cudamalloc", "prefixsum", "libc", "warpheap"])
    for name in shown:
        for allocator, case in results.matching(name):
            points = curve(case, "payload_of_pages")
            if allocator == "warpheap" and points:
                axes[0].plot(*points, label=name, **line_style(next(marks)))
    axes[0].set_ylim(0, 1)
    axes[0].set_xlabel("round")
    axes[0].set_ylabel("live payload / bytes of pages in use")
    if not axes[0].lines:
        return None
    axes[0].legend(fontsize=7)
    return figure, "How full the pages are that the heap holds, from round to round of the churn."


def page_map(results):
    for name in ("churn/other-75", "churn/same-75", "churn/other-50", "churn/same-50"):
        for allocator, case in results.matching(name):
            fills, classes = curve(case, "page_fill"), curve(case, "page_class")
            if fills and classes:
                return _draw_page_map(name, fills, classes)
    return None


def _draw_page_map(name, fills, classes):
    figure, axes = panels(2, width=5.5, height=4.2)
    first, last = int(fills[0][0]), int(fills[0][-1])
    width = 128
    while (last - first + 1) / width > 96:
        width *= 2
    rows = math.ceil((last - first + 1) / width)
    cells = [[math.nan] * width for _ in range(rows)]
    for page, fill in zip(*fills):
        cells[(int(page) - first) // width][(int(page) - first) % width] = fill
    image = axes[0].imshow(cells, cmap="Greys", vmin=0, vmax=1, aspect="auto",
                           interpolation="nearest")
    figure.colorbar(image, ax=axes[0], label="fill of the page's span")
    axes[0].grid(False)
    axes[0].set_xlabel(f"page of a row of {width} (8 KiB each)")
    axes[0].set_ylabel("row, in the order of addresses")
    quarters = ["empty to 1/4", "1/4 to 1/2", "1/2 to 3/4", "3/4 to full"]
    counts = {}
    for cls, fill in zip(classes[1], fills[1]):
        counts.setdefault(int(cls), [0] * 4)[min(3, int(fill * 4))] += 1
    order = sorted(counts)
    names = {68: "tiny", 69: "large", 70: "stock"}
    bottom = [0] * len(order)
    for q, text in enumerate(quarters):
        heights = [counts[c][q] for c in order]
        axes[1].bar(range(len(order)), heights, bottom=bottom, label=text, edgecolor="black",
                    linewidth=0.5, facecolor=str(0.95 - 0.28 * q),
                    hatch=["..", "//", "xx", ""][q])
        bottom = [b + h for b, h in zip(bottom, heights)]
    axes[1].set_xticks(range(len(order)))
    axes[1].set_xticklabels([names.get(c, str(c)) for c in order], rotation=90, fontsize=6)
    axes[1].set_xlabel("size class")
    axes[1].set_ylabel("pages")
    axes[1].legend(title="fill")
    return figure, f"Fragmentation: pages of the heap by place, class and fill after {name}; white " \
                   "places in the map never held objects of kernels, or none now."


def requests(results):
    figure, axes = panels(3, width=3.8)
    drawn = False
    for allocator, case in results.matching("device/requests"):
        for a, (name, text) in zip(axes, (("host_requests", "requests to the host so far"),
                                          ("host_waits", "waits for the host so far"),
                                          ("malloc_ns", "malloc (ns/op)"))):
            points = curve(case, name)
            if points:
                a.plot(*points, drawstyle="steps-post", **line_style(allocator))
                a.set_xlabel("million mallocs so far")
                a.set_ylabel(text)
                drawn = True
    return (figure, "What the heap asks of the host over time: it grows for a third of the run, then "
                    "keeps its size.") if drawn else None


def memory(results):
    figure, axes = panels(2)
    drawn = False
    for allocator, case in _by_allocator(results, "survey/out-of-memory"):
        points = curve(case, "handed_out")
        if points:
            axes[0].plot(*points, label=allocator, **line_style(allocator))
            drawn = True
    axes[0].set_xscale("log", base=2)
    axes[0].set_ylim(0, 1.05)
    axes[0].set_xlabel("size of an object (bytes)")
    axes[0].set_ylabel("bytes handed out / heap, at the first null")
    for allocator, case in _by_allocator(results, "survey/fragmentation"):
        points = curve(case, "address_range_16")
        if points:
            axes[1].plot(*points, label=allocator, **line_style(allocator))
            drawn = True
    axes[1].set_yscale("log")
    axes[1].set_xlabel("round of 16-byte objects")
    axes[1].set_ylabel("address range / ideal")
    if drawn:
        for a in axes:
            if a.lines:
                a.legend()
    return (figure, "Memory that can be used before the first null pointer, and how far apart small "
                    "objects lie.") if drawn else None


def _bars(results, groups, caption):
    """Groups of (label, prefix, operation): a bar for each allocator, ns per operation."""
    rows = []
    for text, prefix, operation in groups:
        for allocator, case in _by_allocator(results, prefix):
            for one in case["operations"]:
                if one["name"] == operation and one["ns_per_op"]:
                    rows.append((text, allocator, one))
                    break
    if not rows:
        return None
    texts = list(dict.fromkeys(text for text, _, _ in rows))
    allocators = sorted({allocator for _, allocator, _ in rows}, key=place)
    figure, axes = panels(1, width=max(5, 1.1 * len(texts) + 3))
    step = 0.8 / len(allocators)
    for i, allocator in enumerate(allocators):
        bars = [(texts.index(text) + (i - (len(allocators) - 1) / 2) * step, one["ns_per_op"],
                 one.get("p5_ns_per_op", one["ns_per_op"]),
                 one.get("p95_ns_per_op", one["ns_per_op"]))
                for text, name, one in rows if name == allocator]
        x, y, low, high = zip(*bars)
        axes[0].bar(x, y, step, label=allocator, capsize=1.5, error_kw={"elinewidth": 0.6},
                    yerr=[[max(a - b, 0) for a, b in zip(y, low)],
                          [max(b - a, 0) for a, b in zip(y, high)]], **bar_style(allocator))
    axes[0].set_yscale("log")
    axes[0].set_xticks(range(len(texts)))
    axes[0].set_xticklabels(texts, rotation=30, ha="right")
    axes[0].set_ylabel("ns/op")
    axes[0].legend()
    return figure, caption


def work(results):
    return _bars(results, [(f"4..{n} bytes, {what}", f"survey/work-{n}", what)
                           for n in (64, 4096) for what in ("work", "read")],
                 "Work generation: each thread gets and writes memory of its own size; then it is "
                 "read. prefixsum: all sizes are summed first, and one allocation serves all.")


def graphs(results):
    names = [("R-MAT", "survey/graph"), ("Debian", "real/graph-debian"),
             ("R-MAT 2", "real/graph-rmat"), ("roads", "real/graph-roads"),
             ("file", "real/graph-file")]
    return _bars(results, [(f"{text}, {what}", prefix, what)
                           for text, prefix in names for what in ("build", "insert", "delete")],
                 "Graphs kept in the allocator's memory: time for an edge (build) or an update.")


def traces(results):
    return _bars(results, [(f"{text}, {where}", f"real/trace-{prefix}{name}", "event")
                           for text, name in (("perl", "perl"), ("compiler", "compiler"),
                                              ("file", "file"))
                           for where, prefix in (("kernel", ""), ("host", "host-"))],
                 "Allocation traces of real programs, replayed: time for one malloc or free.")


def others(results):
    return _bars(results, [(f"freed by {by}", "device/free-by", "free") for by in ("maker",)]
                 + [("pair in one kernel", "device/pairs", "pair"),
                    ("host call, malloc", "device/host-calls", "malloc"),
                    ("host call, free", "device/host-calls", "free"),
                    ("create", "survey/creation", "create"),
                    ("destroy", "survey/creation", "destroy")],
                 "Single figures: frees, pairs, calls made by the host, creation of the allocator.")


CHARTS = [
    ("size-thread", lambda r: over_size(r, "thread")),
    ("size-warp", lambda r: over_size(r, "warp")),
    ("threads", lambda r: over_threads(r, "thread")),
    ("warps", lambda r: over_threads(r, "warp")),
    ("mixed-thread", lambda r: over_mixed_size(r, "thread")),
    ("lanes", lanes),
    ("latency", latency),
    ("churn-same", lambda r: churn(r, "same")),
    ("churn-other", lambda r: churn(r, "other")),
    ("utilisation", churn_utilisation),
    ("page-map", page_map),
    ("requests", requests),
    ("memory", memory),
    ("work", work),
    ("graphs", graphs),
    ("traces", traces),
    ("others", others),
]
