"""The results as pictures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scenarios import SIZES, Measured

OURS, OTHER = "#1f77b4", "#b9bfc7"

mpl.rcParams.update(
    {
        "svg.hashsalt": "smartredis_wsgi",  # the same results make the same file
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def write(folder: Path, results: Iterable[Measured]) -> list[Path]:
    """A picture for each scenario, in this folder; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{each.name}.svg", each) for each in results]


def _write(path: Path, measured: Measured) -> Path:
    height = 4 if measured.is_by_size else 1 + 0.28 * len(measured.seconds)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    (_lines if measured.is_by_size else _bars)(axes, measured)
    axes.set_title(measured.about, loc="left", fontsize=10)
    figure.savefig(path, metadata={"Date": None})
    return path


def _bars(axes: Axes, measured: Measured) -> None:
    """Medians with their quartiles, the fastest on top."""
    unit, factor = measured.unit
    quartiles = {n: _quartiles(each, factor) for n, each in measured.seconds.items()}
    names = sorted(quartiles, key=lambda name: quartiles[name][1])
    lows, medians, highs = zip(*(quartiles[name] for name in names), strict=True)
    spread = [
        [median - low for median, low in zip(medians, lows, strict=True)],
        [high - median for median, high in zip(medians, highs, strict=True)],
    ]
    colours = [OURS if name.startswith("ours") else OTHER for name in names]
    axes.barh(names, medians, xerr=spread, color=colours, ecolor="#555555")
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit}, median and quartiles")


def _lines(axes: Axes, measured: Measured) -> None:
    """A line for everybody: from size to median."""
    sizes = {beside: size for beside, size in SIZES.items() if size}
    medians, (unit, factor) = measured.medians, measured.unit
    for who in measured.participants:
        places = [medians[f"{who}, {beside}"] * factor for beside in sizes]
        width = 2.5 if who == "ours" else 1.2
        axes.loglog(list(sizes.values()), places, "o-", label=who, linewidth=width)
    axes.set_xlabel("bytes of the value beside")
    axes.set_ylabel(f"{unit}, median")
    axes.legend(frameon=False)


def _quartiles(seconds: list[float], factor: float) -> tuple[float, float, float]:
    if len(seconds) < 2:
        return (seconds[0] * factor,) * 3
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low * factor, median * factor, high * factor
