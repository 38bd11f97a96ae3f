"""How charts look: told apart by marker, line and hatch as well as by grey, so that a print in black
and white can be read."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

MARKERS = ["o", "s", "^", "D", "v", "x", "P", "*"]
LINES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1))]
GREYS = ["black", "#555555", "#333333", "#777777", "#111111", "#666666", "#444444", "#888888"]
HATCHES = ["", "//", "..", "xx", "\\\\", "++", "oo", "--"]
FILLS = ["#222222", "#ffffff", "#bbbbbb", "#ffffff", "#888888", "#ffffff", "#dddddd", "#ffffff"]

# Of allocators that are not in ORDER.
MORE_FILLS = ["#ffffff", "#bbbbbb", "#dddddd", "#999999", "#eeeeee"]
MORE_HATCHES = ["|", "-", "O", "*", "|-", "/o", "\\|", ".-"]

# The same allocator looks the same in every chart.
ORDER = ["warpheap", "bump", "spinlist", "cudamalloc", "prefixsum", "libc", "cudamallocasync"]

plt.rcParams.update({
    "font.size": 9, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5,
    "legend.frameon": False, "figure.constrained_layout.use": True, "svg.hashsalt": "warpheap",
    "lines.markersize": 4.5, "lines.linewidth": 1.3,
})


def place(name):
    if name in ORDER:
        return ORDER.index(name)
    return len(ORDER) + sum(map(ord, name)) % 49  # below 8 * 7: a marker and a line of its own


def line_style(name):
    i = place(name)
    return {"marker": MARKERS[i % len(MARKERS)], "linestyle": LINES[i % len(LINES)],
            "color": GREYS[i % len(GREYS)], "markerfacecolor": "white" if i % 2 else None}


def bar_style(name):
    i = place(name)
    known = i < len(ORDER)
    return {"facecolor": FILLS[i] if known else MORE_FILLS[i % len(MORE_FILLS)],
            "hatch": HATCHES[i] if known else MORE_HATCHES[i % len(MORE_HATCHES)],
            "edgecolor": "black", "linewidth": 0.7}


def panels(count, width=4.6, height=3.3):
    """A row of axes."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False)
    return figure, list(axes[0])
