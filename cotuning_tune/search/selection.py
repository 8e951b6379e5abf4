"""What the search hands over: each study's study as a file, and the configuration that was chosen."""

import math
from typing import cast

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.base.files import write_json
from cotuning_tune.experiment import Experiment
from cotuning_tune.hyper import Choice, Range
from cotuning_tune.run import ledger
from cotuning_tune.run.events import Selected
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.records import Values
from cotuning_tune.search.board import column_values
from cotuning_tune.search.study import OptunaStudy, Studies, accuracy_of

RULE = "best validation accuracy among trials of full length; the earliest of equals"
STOPPED_RULE = "no trial ran to its end: best validation accuracy among those stopped early; the earliest of equals"
EDGE = 0.05
LEAST_FOR_IMPORTANCE = 30  # trials of full length: of 8 its first parameter is chance


def _row(trial: FrozenTrial) -> Values:
    """``value`` is Optuna's (of a stopped trial the last report), ``accuracy`` the best reached, None of none."""
    attrs, best = trial.user_attrs, accuracy_of(trial)
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "accuracy": best if math.isfinite(best) else None,
        "values": dict(trial.params),
        "epochs": len(trial.intermediate_values),
        "seconds": attrs.get("seconds", 0.0),
        "reason": attrs.get("reason", ""),
        "reissued": attrs.get("reissued", 0),
    }


def at_edge(experiment: Experiment, method: str, values: Values) -> list[str]:
    """The searched numbers that lie within 5 % of an end of their range (of its logarithm)."""
    found = []
    for key, parameter in experiment.space(method).items():
        search = parameter.search
        if key not in values or search is None:
            continue
        if isinstance(search, Choice):
            numbers = [o for o in search.options if isinstance(o, (int, float)) and not isinstance(o, bool)]
            if len(numbers) > 2 and values[key] in (min(numbers), max(numbers)):
                found.append(key)
        elif isinstance(search, Range):
            low, high, value = search.low, search.high, float(cast(float, values[key]))
            if search.log:
                low, high, value = math.log(low), math.log(high), math.log(value)
            if not EDGE <= (value - low) / (high - low) <= 1 - EDGE:
                found.append(key)
    return found


def importance(study: OptunaStudy) -> dict[str, float]:
    """Share of each searched parameter in what sets the best tenth of the study's trials apart (PED-ANOVA).

    Watanabe, Bansal, Hutter, IJCAI 2023. Empty where too few trials ran to their end, or all are alike.
    """
    done = [t for t in study.own_trials() if t.state == TrialState.COMPLETE]
    if len(done) < LEAST_FOR_IMPORTANCE or len({t.value for t in done}) == 1 or not study.distributions:
        return {}
    copy = optuna.create_study(direction="maximize")
    copy.add_trials(done)
    found = get_param_importances(copy, evaluator=PedAnovaImportanceEvaluator())
    return {key: float(share) for key, share in found.items()}


def _write_study(run: RunDir, experiment: Experiment, study: OptunaStudy) -> FrozenTrial | None:
    folder = run.study(study.key.name)
    place = {"task": study.key.task, "rate": study.key.rate, "method": study.key.method}
    rows = [_row(trial) for trial in study.own_trials()]
    summary = {**place, "budget": study.budget, "given_up": study.given_up, "importance": importance(study)}
    summary["trials"] = rows
    write_json(folder.summary, summary)
    best = study.best()
    if best is None:
        folder.selection.unlink(missing_ok=True)
        return None
    spec = experiment.spec(study.key, best.params, seed=experiment.config.search_seed)
    selection = {
        **place,
        "trial": best.number,
        "val_accuracy": accuracy_of(best),
        "values": dict(best.params),
        "hparams": column_values(experiment, study.key, best.params),
        "at_edge": at_edge(experiment, study.key.method, best.params),
        "state": best.state.name,
        "rule": RULE if best.state == TrialState.COMPLETE else STOPPED_RULE,
        "spec": spec.to_json(),
        "config": ledger.config_hash(spec.to_json()),
        "study_hash": ledger.content_hash(summary),
    }
    write_json(folder.selection, selection)
    return best


def write_selections(run: RunDir, experiment: Experiment, studies: Studies) -> list[Selected]:
    """``study.json`` and ``selection.json`` of every study; what was selected."""
    chosen = {name: _write_study(run, experiment, study) for name, study in studies.by_name.items()}
    return [Selected(name, best.number, accuracy_of(best)) for name, best in chosen.items() if best is not None]
