"""Results as a table for a terminal, a table for a README and a bar chart."""

from pathlib import Path
from typing import Any

import hardware


COLUMNS = {
    "documents/s": ("documents_per_second", "{:,.1f}"),
    "tokens/s": ("tokens_per_second", "{:,.0f}"),
    "FLOP/s": ("flops_per_second", "{}"),
    "of matrix rate": ("share_of_matrix_rate", "{:.1%}"),
    "x bare products": ("times_bare_products", "{:.2f}"),
    "x annotator": ("times_annotator", "{:.1f}"),
    "peak memory": ("peak_memory", "{}"),
    "max difference": ("largest_difference", "{:.1e}"),
    "GPU busy": ("gpu_busy", "{:.0%}"),
}
README_COLUMNS = ("documents/s", "tokens/s", "of matrix rate", "x annotator", "peak memory")
OURS, OTHERS, LIMIT = "#1f6feb", "#9aa4af", "#b3261e"


def rows(result: dict[str, Any], columns: tuple[str, ...]) -> list[list[str]]:
    """A header and a row for each contender."""
    table = [["", *columns]]
    for contender in result["contenders"].values():
        failed = "seconds" not in contender
        table.append([contender["label"], *("failed" if failed else cell(contender, column) for column in columns)])
    return table


def cell(contender: dict[str, Any], column: str) -> str:
    """A figure as it is shown."""
    key, form = COLUMNS[column]
    value = contender[key]
    if value is None:
        return "-"
    if key == "flops_per_second":
        return operations(value)
    return f"{value / 1e9:.2f} GB" if key == "peak_memory" else form.format(value)


def operations(rate: float) -> str:
    """Operations per second in a fitting unit."""
    return f"{rate / 1e12:,.1f} T" if rate >= 1e12 else f"{rate / 1e9:,.1f} G"


def title(result: dict[str, Any]) -> str:
    """What was measured on what."""
    return (
        f"{Path(result['shape']).name}, {result['dtype']}, {result['mix']} mix, {result['documents']:,} documents, "
        f"{hardware.machine_name(result['machine'])}"
    )


def table(result: dict[str, Any]) -> str:
    """A table for a terminal."""
    shown = [column for column in COLUMNS if column != "GPU busy" or result["device"] == "cuda"]
    cells = rows(result, tuple(shown))
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    mean = result["tokens"] / result["documents"]
    lines = [
        title(result),
        f"{mean:.0f} tokens a document, the longest {result['longest']:,}; "
        f"attention: {result['attention'] or 'default'}; "
        f"bare matrix products: {operations(result['matrix_rate'])}FLOP/s",
    ]
    for first, *others in cells:
        figures = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *figures]))
    return "\n".join(lines)


def markdown(result: dict[str, Any]) -> str:
    """A table for a README, with what it was measured on."""
    header, *body = rows(result, README_COLUMNS)
    lines = [f"{title(result)}:", "", row_of(header), row_of(["---", *["---:"] * (len(header) - 1)])]
    return "\n".join(lines + [row_of(row) for row in body])


def row_of(cells: list[str]) -> str:
    """A line of a markdown table."""
    return "| " + " | ".join(cells) + " |"


def chart(result: dict[str, Any], path: str) -> None:
    """Draw tokens per second of each contender, and what the matrix products alone would allow.

    Args:
        result: of a comparison.
        path: ending in .svg or .png.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "throughput"  # the same file for the same results
    from matplotlib import pyplot

    measured = {name: each for name, each in result["contenders"].items() if "seconds" in each}
    rates = [each["tokens_per_second"] for each in measured.values()]
    limit = result["matrix_rate"] * result["tokens"] / result["matrix_flops"]
    figure, axes = pyplot.subplots(figsize=(9, 1.4 + 0.45 * len(measured)), layout="constrained")
    colours = [OURS if name.startswith("ours") else OTHERS for name in measured]
    bars = axes.barh([each["label"] for each in measured.values()], rates, color=colours)
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=4)
    axes.axvline(limit, color=LIMIT, linestyle="--")
    axes.annotate(
        f"bare matrix products: {limit:,.0f}", (limit, 1), xycoords=("data", "axes fraction"),
        xytext=(-4, 4), textcoords="offset points", ha="right", color=LIMIT,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, max(limit, *rates) * 1.12)
    axes.set_xlabel("tokens per second (pads not counted)")
    axes.set_title(title(result), fontsize=10, pad=22)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.endswith(".svg") else None)
    pyplot.close(figure)
