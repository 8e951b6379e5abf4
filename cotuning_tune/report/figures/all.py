"""Every figure of a run."""

from cotuning_tune.report.figures.chart import Figure
from cotuning_tune.report.figures.curves import best_figure, learning_figure
from cotuning_tune.report.figures.models import gap_figure, relations_figure
from cotuning_tune.report.figures.weights import importance_figure, parallel_figure, weight_figure
from cotuning_tune.report.results import StudyResult, device_of
from cotuning_tune.runs.folder import RunDir


def build_figures(run: RunDir, studies: list[StudyResult]) -> list[Figure]:
    """The figures that have something to show, in the page's order."""
    device = device_of(run)
    figures = [
        best_figure(studies, device, hours=False),
        best_figure(studies, device, hours=True),
        weight_figure(studies),
        importance_figure(studies),
        parallel_figure(run, studies),
        gap_figure(studies),
        learning_figure(run, studies),
        relations_figure(run, studies),
    ]
    return [figure for figure in figures if figure.has_content]
