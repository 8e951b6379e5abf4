"""The figures of a report: what they show is worked out here, the page and the files only draw it."""

from cotuning_tune.report.figures.all import build_figures
from cotuning_tune.report.figures.chart import ALL, Figure, Series

__all__ = ["ALL", "Figure", "Series", "build_figures"]
