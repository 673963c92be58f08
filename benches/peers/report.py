"""What `benches/run` writes: a Markdown table, and a picture of it as SVG."""
import html
import math
import statistics

COLORS = {
    "PyTorch eager": "#e4572e",
    "PyTorch channels last": "#f3a712",
    "torch.compile": "#a23b72",
    "JAX": "#2e86ab",
    "Keras": "#7f7f00",
    "ONNX Runtime": "#6a994e",
    "OpenVINO": "#5c4d7d",
    "tract": "#8d6e63",
    "candle": "#00a896",
    "burn": "#c1121f",
}


def quartiles(seconds):
    """Lower quartile, median and upper quartile."""
    return statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3


def text_of(seconds):
    """Median and quartiles, in microseconds or milliseconds."""
    low, middle, high = quartiles(seconds)
    unit, scale, digits = ("µs", 1e6, 1) if middle < 1e-3 else ("ms", 1e3, 2 if middle < 0.1 else 1)
    return f"{scale * middle:.{digits}f} {unit} ({scale * low:.{digits}f}-{scale * high:.{digits}f})"


def name_of(result):
    return f"{result['key']} {result['title']}, batch {result['rows']}"


def table(result):
    """The rows of one workload."""
    clock = statistics.median(result["clocks"])
    ours = statistics.median(result["seconds"]["nnc"])
    title = f"{name_of(result)}, {result['threads']} thread{'s' * (result['threads'] > 1)}"
    lines = [
        f"### {title}",
        "",
        f"{result['repeats']} turns each; clock {clock:.2f} GHz; workspace of nnc {result['workspace'] / 2**20:.1f} MiB; its kernels are {result['in_kernels']:.0%} of its time",
        "",
        "| | a step, median (quartiles) | nnc / it | flop a cycle | memory of a step | ready in | largest difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, seconds in result["seconds"].items():
        middle = statistics.median(seconds)
        density = result["operations"] / (middle * clock * 1e9)
        difference = result["differences"].get(name)
        shown = "" if difference is None else f"{difference:.0e}"
        memory = f"{result['memory'][name] / 2**20:.1f} MiB" if result["memory"].get(name) else ""
        lines.append(
            f"| {name} | {text_of(seconds)} | {ours / middle:.2f} | {density:.1f} | {memory} | {result['ready_ms'][name]:.0f} ms | {shown} |"
        )
    lines += [f"| {name} | not available: {reason} | | | | | |" for name, reason in result["unavailable"].items()]
    return "\n".join(lines) + "\n"


def summary(results):
    """Medians of all workloads, a column for each contestant; the fastest one in bold."""
    names = list(dict.fromkeys(["nnc", *COLORS]))
    names = [name for name in names if any(name in r["seconds"] for r in results)]
    lines = ["| | threads | " + " | ".join(names) + " | nnc / best |", "| --- " * (len(names) + 3) + "|"]
    for result in results:
        medians = {name: statistics.median(seconds) for name, seconds in result["seconds"].items()}
        best = min(medians, key=medians.get)
        others = [middle for name, middle in medians.items() if name != "nnc"]
        cells = []
        for name in names:
            text = f"{1e3 * medians[name]:.3g} ms" if name in medians else ""
            cells.append(f"**{text}**" if name == best else text)
        ratio = f"{medians['nnc'] / min(others):.2f}" if others else ""
        lines.append(f"| {name_of(result)} | {result['threads']} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def picture(results):
    """For each workload how long each peer takes, in nnc's times, on a logarithmic axis."""
    ratios = []
    for result in results:
        ours = statistics.median(result["seconds"]["nnc"])
        others = {n: statistics.median(s) / ours for n, s in result["seconds"].items() if n != "nnc"}
        ratios.append((f"{name_of(result)}, {result['threads']} thr.", others))
    values = [value for _, others in ratios for value in others.values()] or [1]
    low, high = min(0.5, *values) / 1.1, max(2, *values) * 1.1
    left, width, row, top = 340, 560, 22, 60

    def across(value):
        return left + width * math.log(value / low) / math.log(high / low)

    bottom = top + row * len(ratios)
    shapes = [f'<text x="{left}" y="18">time of each peer / time of nnc: right of 1, nnc is faster</text>']
    for i, (name, color) in enumerate(COLORS.items()):
        x = 20 + 103 * i
        shapes.append(f'<circle cx="{x}" cy="36" r="5" fill="{color}"/><text x="{x + 9}" y="40">{html.escape(name)}</text>')
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if low <= tick <= high:
            x = across(tick)
            color = "#000" if tick == 1 else "#ccc"
            shapes.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{color}"/>')
            shapes.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for i, (title, others) in enumerate(ratios):
        y = top + row * (i + 0.5)
        shapes.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{html.escape(title)}</text>')
        for name, value in others.items():
            shapes.append(f'<circle cx="{across(value):.1f}" cy="{y}" r="5" fill="{COLORS[name]}"/>')
    size = f'width="{left + width + 20}" height="{bottom + 30}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *shapes, "</svg>"]) + "\n"
