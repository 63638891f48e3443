"""A map as PNG: points, a legend that names their colours, and labels that do not overlap."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.map.points import COLOURS, COMMONEST, OTHER_COLOUR

_INCHES = (11.0, 7.5)
_DPI = 120
_NONE = 0.35  # opacity of what has no colour of its own
_LEGEND = {"fontsize": 8, "frameon": False, "scatterpoints": 1}
# matplotlib's own font has no Chinese, Japanese or Korean; the first of these that is installed has.
_EAST_ASIAN = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
               "Droid Sans Fallback", "Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS")  # fmt: skip


def draw(
    places: np.ndarray,
    colouring: dict[str, Any],
    *,
    title: str,
    legend: str,
    labels: Sequence[tuple[str, np.ndarray]],
    job: str,
) -> bytes:
    """Draws the points; the same ones give the same bytes.

    Args:
      places: float32 [n, 2 or 3], finite.
      colouring: as `points.colouring` has it, of each place.
      title, legend: what is shown, and by what it is coloured.
      labels: texts and their places, the most important first; one that finds no room is left out.
      job: the identity of the output's job, noted in the file.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.family": _fonts()}):
        figure = Figure(figsize=_INCHES, dpi=_DPI)
        canvas = FigureCanvasAgg(figure)  # needs no display
        deep = places.shape[1] == 3
        axes: Any = figure.add_axes((0.05, 0.05, 0.7, 0.88), projection="3d" if deep else None)
        axes.tick_params(labelsize=7, colors="#777777")
        if not deep:
            title = _frame(axes, places, title)
            axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, fontsize=11, loc="left", parse_math=False)
        _scatter(figure, axes, places, colouring, legend)
        canvas.draw()
        _label(figure, axes, labels)
        made = io.BytesIO()
        figure.savefig(made, format="png", metadata={"Software": None, "embedbeam.job": job})
    return made.getvalue()


def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _EAST_ASIAN if name in there][:1]]


def _frame(axes: Any, places: np.ndarray, title: str) -> str:
    """Leaves out the few points that lie far from all others, and says so in the title."""
    low, high = np.percentile(places, [0.5, 99.5], axis=0)
    room = 0.08 * (high - low)
    low, high = low - room, high + room
    outside = int(((places < low) | (places > high)).any(axis=1).sum())
    if not outside or (places.max(axis=0) - places.min(axis=0) < 1.3 * (high - low)).all():
        return title
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    return f"{title} ({outside:,} far outside are not shown)"


def _scatter(figure: Any, axes: Any, places: np.ndarray, colouring: dict[str, Any], legend: str) -> None:
    size = float(np.clip(40_000 / max(1, len(places)), 3, 30))
    if colouring["kind"] == "number":
        values = np.array([np.nan if v is None else v for v in colouring["values"]], np.float64)
        known = np.isfinite(values)
        none = axes.scatter(*places[~known].T, s=size, c=OTHER_COLOUR, alpha=_NONE, linewidths=0)
        if not known.all():
            said = [f"no value ({np.count_nonzero(~known):,})"]
            figure.legend([none], said, loc="upper left", bbox_to_anchor=(0.775, 0.17), **_LEGEND)
        shown = axes.scatter(*places[known].T, s=size, c=values[known], cmap="cividis", linewidths=0)
        bar = figure.colorbar(shown, cax=figure.add_axes((0.79, 0.2, 0.018, 0.55)))
        bar.ax.set_title(_cut(legend, 24), fontsize=9, loc="left", parse_math=False)
        bar.ax.tick_params(labelsize=8)
        return
    groups = np.minimum(np.array(colouring["values"]), COMMONEST)
    names, counts = colouring["names"], colouring["counts"]
    handles, said = [], []
    for group in range(int(groups.max(initial=-1)), -1, -1):  # the commonest last, above the others
        some = places[groups == group].T
        if group == COMMONEST:
            style: dict[str, Any] = {"facecolors": "none", "edgecolors": OTHER_COLOUR, "linewidths": 0.5}
            text = f"{len(names) - COMMONEST:,} others ({sum(counts[COMMONEST:]):,})"
        else:
            marker = "o" if group < COMMONEST // 2 else "D"
            style = {"c": COLOURS[group], "linewidths": 0, "marker": marker, "alpha": 0.85}
            text = f"{_cut(names[group], 30)} ({counts[group]:,})"
        handles.append(axes.scatter(*some, s=size * (0.6 if group >= COMMONEST // 2 else 1), **style))
        said.append(text)
    made = figure.legend(
        handles[::-1],
        said[::-1],
        title=_cut(legend, 30),
        loc="upper left",
        bbox_to_anchor=(0.765, 0.93),
        title_fontsize=9,
        alignment="left",
        **_LEGEND,
    )
    made.get_title().set_parse_math(False)
    for text, handle in zip(made.get_texts(), made.legend_handles, strict=True):
        text.set_parse_math(False)
        handle.set_sizes([36])


def _label(figure: Any, axes: Any, labels: Sequence[tuple[str, np.ndarray]]) -> None:
    """Texts at their places, or as near as there is room."""
    renderer = figure.canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    taken: list[Any] = []
    for words, place in labels:
        x, y = _pixels(axes, place)
        text = figure.text(
            0,
            0,
            _cut(words, 40),
            fontsize=9,
            weight="bold",
            ha="center",
            va="center",
            transform=None,
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "#999999", "lw": 0.5, "alpha": 0.85},
        )
        for step in range(60):  # in a widening spiral
            reach, turn = 7 * np.sqrt(step) * 1.6, 2.4 * step
            text.set_position((x + 1.8 * reach * np.cos(turn), y + reach * np.sin(turn)))
            box = text.get_window_extent(renderer).padded(6)
            free = not any(box.overlaps(other) for other in taken)
            if free and inside.fully_contains(box.x0, box.y0) and inside.fully_contains(box.x1, box.y1):
                taken.append(box)
                break
        else:
            text.remove()


def _pixels(axes: Any, place: np.ndarray) -> tuple[float, float]:
    if len(place) == 3:
        from mpl_toolkits.mplot3d import proj3d

        x, y, _ = proj3d.proj_transform(*place, axes.get_proj())
        return tuple(axes.transData.transform((x, y)))
    return tuple(axes.transData.transform(place))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
