"""The report: reads a run's files and nothing else, so it starts fast and runs anywhere."""

from cotuning_tune.report.compare import comparison_report, read_runs, write_comparison
from cotuning_tune.report.figures.draw import write_figures
from cotuning_tune.report.write import Report, build_report, write_report

__all__ = [
    "Report",
    "build_report",
    "comparison_report",
    "read_runs",
    "write_comparison",
    "write_figures",
    "write_report",
]
