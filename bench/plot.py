"""A plot of horizontal bars as SVG text: the median, with the least and the most as a whisker."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape

ROW, BAR, LEFT, WIDTH, TOP = 26, 16, 300, 860, 46  # pixels
OURS, OTHERS = "#2563eb", "#94a3b8"


def plot(bars: Mapping[str, Sequence[float]], title: str) -> str:
    """Those whose name begins with "worker" are ours and stand out."""
    height = TOP + ROW * len(bars) + 14
    scale = (WIDTH - LEFT - 80) / max(max(values) for values in bars.values())
    ordered = sorted(bars.items(), key=lambda bar: statistics.median(bar[1]))
    rows = [_row(name, values, TOP + ROW * index, scale) for index, (name, values) in enumerate(ordered)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' font-family="Helvetica, Arial, sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
            f'<text x="16" y="27" font-size="15" font-weight="bold" fill="#0f172a">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _row(name: str, values: Sequence[float], y: int, scale: float) -> str:
    median, ours = statistics.median(values), name.startswith("worker")
    least, most, middle = LEFT + min(values) * scale, LEFT + max(values) * scale, y + BAR / 2
    weight = ' font-weight="bold"' if ours else ""
    return (
        f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end" fill="#0f172a"{weight}>{escape(name)}</text>'
        f'<rect x="{LEFT}" y="{y}" width="{median * scale:.1f}" height="{BAR}" fill="{OURS if ours else OTHERS}"/>'
        f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="#0f172a"/>'
        f'<text x="{max(most, LEFT + median * scale) + 8:.1f}" y="{y + 13}" fill="#0f172a"{weight}>{median:.1f}</text>'
    )
