"""What TensorBoard shows of a run as a whole: the columns of HParams, and a chart for each study.

Both are written once, into the root of the run's event files. HParams has the same columns for every trial,
also those of other methods. A chart of CUSTOM SCALARS takes its lines by tag from every folder: so each
method has a folder of its own (one colour in all charts), and each task at a rate a tag in it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cotuning_tune.hyper import Choice, Parameter, Range
from cotuning_tune.scores import Metric
from cotuning_tune.tensorboard.events import PATTERN, STOPPED_EARLY, EventFile

METHODS = "methods"  # the folder of the methods' curves
PARTS = ("search", "retrain", METHODS)
STOPPED = {STOPPED_EARLY: "stopped early (1: yes)"}
SHOWN = 5  # columns that HParams shows before anybody ticks one: the first, by name, of those that are said to differ
ALWAYS = ("method", "optim/lr")
FIRST = (*ALWAYS, "run", "task", "rate", "stage", "backbone")
CHARTS = "Best validation score of a trial of full length so far, by trials that have ended"


def curve_tag(study: str) -> str:
    """The tag of the curves of a task at a rate."""
    return f"best_val_score/{study}"


def _column(name: str, values: Iterable[Any], searches: Sequence[Range | Choice] = ()) -> Any:
    """A column whose trials have one of ``values``, or lie in one of ``searches``."""
    from tensorboard.plugins.hparams.api_pb2 import HParamInfo

    options = list(values) + [o for s in searches if isinstance(s, Choice) for o in s.options]
    ranges = [s for s in searches if isinstance(s, Range)]
    numbers = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in options)
    flags = all(isinstance(o, bool) for o in options) and not ranges
    column = HParamInfo(name=name)
    if ranges and numbers:
        ends = [float(end) for s in ranges for end in (s.low, s.high)] + [float(o) for o in options]
        column.domain_interval.min_value, column.domain_interval.max_value = min(ends), max(ends)
    elif numbers or flags or not ranges:
        kept = options if numbers or flags else map(str, options)
        column.domain_discrete.extend(sorted(set(kept)))
    column.type = (
        HParamInfo.DESCRIPTOR.fields_by_name["type"]
        .enum_type.values_by_name[f"DATA_TYPE_{'FLOAT64' if numbers else 'BOOL' if flags else 'STRING'}"]
        .number
    )
    return column


def _with_shown(infos: Iterable[Any]) -> list[Any]:
    """The columns, of which those that shall be shown first are said to differ, and no others."""

    def differs(info: Any) -> bool:
        return info.HasField("domain_interval") or len(info.domain_discrete.values) > 1

    every = {info.name: info for info in infos}
    order = [name for name in FIRST if name in every] + [name for name in every if name not in FIRST]
    shown = [name for name in order if name in ALWAYS or differs(every[name])][:SHOWN]
    for name, info in every.items():
        info.differs = name in shown
    return list(every.values())


def shown_metrics(metrics: Iterable[Metric]) -> dict[str, str]:
    """The columns of scores: tag, and how it is called."""
    found: dict[str, str] = {}
    for metric in metrics:
        found |= {
            f"val/best_{metric.name}": f"best validation {metric.label}",
            f"val/{metric.name}": f"last validation {metric.label}",
            f"test/{metric.name}": f"test {metric.label}",
        }
    return found


def columns(
    fixed: Mapping[str, Sequence[str]],
    parameters: Mapping[str, Sequence[Parameter]],
    *,
    metrics: Iterable[Metric],
    stops: bool,
) -> Any:
    """HParams' description of a run: text columns with their values, then all parameters, then the metrics.

    ``parameters``: by name, as each study that has it defines it. ``stops``: trials may be stopped early.
    """
    from tensorboard.plugins.hparams.api_pb2 import Experiment, MetricInfo, MetricName

    infos = [_column(name, values) for name, values in fixed.items()]
    for name, listed in parameters.items():
        pinned = [p.first for p in listed if p.search is None]
        pinned += [p.neutral for p in listed if isinstance(p.search, Range) and p.neutral is not None]
        infos.append(_column(name, pinned, [p.search for p in listed if p.search is not None]))
    named = shown_metrics(metrics) | (STOPPED if stops else {})
    shown = [MetricInfo(name=MetricName(tag=tag), display_name=name) for tag, name in named.items()]
    return Experiment(hparam_infos=_with_shown(infos), metric_infos=shown)


def layout(studies: Mapping[str, str]) -> Any:
    """The charts of CUSTOM SCALARS: one for each task at a rate; ``studies``: their names and titles."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

    charts = [
        Chart(title=title, multiline=MultilineChartContent(tag=[f"{re.escape(curve_tag(name))}$"]))
        for name, title in studies.items()
    ]
    return Layout(category=[Category(title=CHARTS, chart=charts)])


def write_dashboard(root: Path, experiment: Any, charts: Any) -> None:
    """Write what ``columns`` and ``layout`` give (or ``merged``)."""
    from tensorboard.plugins.custom_scalar import metadata as custom_scalar
    from tensorboard.plugins.hparams import metadata as hparams
    from tensorboard.util.tensor_util import make_tensor_proto

    with EventFile(root) as file:
        file.write_hparams(hparams.EXPERIMENT_TAG, experiment=experiment)
        tensor = make_tensor_proto(charts.SerializeToString())
        file.write_tensor(custom_scalar.CONFIG_SUMMARY_TAG, tensor, custom_scalar.create_summary_metadata())


def read_dashboard(root: Path) -> tuple[Any, Any] | None:
    """What ``write_dashboard`` wrote into a local folder; None where nothing has been written yet."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
    from tensorboard.plugins.hparams.metadata import parse_experiment_plugin_data

    files = sorted(root.glob(PATTERN))
    records = RawEventFileLoader(str(files[-1])).Load() if files else ()
    values = [value for record in records for value in Event.FromString(record).summary.value]
    if len(values) != 2:
        return None
    experiment = parse_experiment_plugin_data(values[0].metadata.plugin_data.content)
    return experiment, Layout.FromString(values[1].tensor.string_val[0])


def merged(dashboards: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """One dashboard for several runs: every column of each, over all its values, and every chart."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Layout
    from tensorboard.plugins.hparams.api_pb2 import Experiment

    infos: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    charts: dict[str, Any] = {}
    for experiment, drawn in dashboards:
        for info in experiment.hparam_infos:
            infos[info.name] = _joined(infos[info.name], info) if info.name in infos else info
        metrics |= {metric.name.tag: metric for metric in experiment.metric_infos}
        charts |= {chart.title: chart for category in drawn.category for chart in category.chart}
    experiment = Experiment(hparam_infos=_with_shown(infos.values()), metric_infos=metrics.values())
    return experiment, Layout(category=[Category(title=CHARTS, chart=charts.values())])


def _joined(one: Any, other: Any) -> Any:
    """The column that has room for the values of both."""
    from google.protobuf.json_format import MessageToDict

    searches, options = list[Range | Choice](), list[Any]()
    for column in (one, other):
        if column.HasField("domain_interval"):
            searches.append(Range(column.domain_interval.min_value, column.domain_interval.max_value))
        options += MessageToDict(column.domain_discrete) if column.HasField("domain_discrete") else []
    return _column(one.name, options, searches)
