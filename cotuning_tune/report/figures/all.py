"""Every figure of a run."""

from cotuning_tune.report.figures.chart import Figure
from cotuning_tune.report.figures.curves import best_figure, learning_figure
from cotuning_tune.report.figures.models import gap_figure, relations_figure
from cotuning_tune.report.figures.weights import importance_figure, parallel_figure, weight_figure
from cotuning_tune.report.results import CellResult, device_of
from cotuning_tune.run.folder import RunDir


def build_figures(run: RunDir, cells: list[CellResult]) -> list[Figure]:
    """The figures that have something to show, in the page's order."""
    device = device_of(run)
    figures = [
        best_figure(cells, device, hours=False),
        best_figure(cells, device, hours=True),
        weight_figure(cells),
        importance_figure(cells),
        parallel_figure(run, cells),
        gap_figure(cells),
        learning_figure(run, cells),
        relations_figure(run, cells),
    ]
    return [figure for figure in figures if figure.has_content]
