"""What the search hands over: each study's study as a file, and the configuration that was chosen."""

from dataclasses import replace

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from cotuning_tune.base.files import write_json
from cotuning_tune.experiment import Experiment, Study
from cotuning_tune.runs import ledger
from cotuning_tune.runs.choice import choose, confirmed, judged, rule_text
from cotuning_tune.runs.events import Selected
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Values
from cotuning_tune.search.board import column_values
from cotuning_tune.search.rows import confirmation_of
from cotuning_tune.search.study import OptunaStudy, Studies
from cotuning_tune.training.job import chance, task_of

LEAST_FOR_IMPORTANCE = 30  # trials of full length: of 8 its first parameter is chance


def importance(study: OptunaStudy) -> dict[str, float]:
    """Share of each searched parameter in what sets the best tenth of the study's trials apart (PED-ANOVA).

    Watanabe, Bansal, Hutter, IJCAI 2023. Empty where too few trials ran to their end, or all are alike.
    """
    done = [t for t in study.own_trials() if t.state == TrialState.COMPLETE]
    if len(done) < LEAST_FOR_IMPORTANCE or len({t.value for t in done}) == 1 or not study.distributions:
        return {}
    copy = optuna.create_study(direction=study.stored.direction)
    copy.add_trials(done)
    found = get_param_importances(copy, evaluator=PedAnovaImportanceEvaluator())
    return {key: float(share) for key, share in found.items()}


def _facts(experiment: Experiment, study: Study) -> Values:
    """The metric, how many validation examples judge a study, and what guessing by the classes' shares scores there."""
    metric, task = experiment.metric(study.task), task_of(experiment.spec(study, {}, 0))
    return {
        "metric": metric.name,
        "examples": task.noun,
        "val_count": len(task.val),
        "chance": chance(metric, task),
    }


def _write_study(run: RunDir, experiment: Experiment, study: OptunaStudy) -> Selected | None:
    folder, rows = run.study(study.key.name), study.rows()
    again = [confirmation_of(trial) for trial in study.confirming()]
    place = {"task": study.key.task, "rate": study.key.rate, "method": study.key.method}
    place |= {"backbone": study.key.backbone} if study.key.backbone else {}
    facts = _facts(experiment, study.key)
    summary = {**place, "budget": study.budget, **facts, "importance": importance(study)}
    summary |= {"trials": rows, "confirmations": again}
    write_json(folder.summary, summary)
    metric, rule = study.metric, experiment.rule
    best = choose(rows, again, rule, metric)
    if best is None:
        folder.selection.unlink(missing_ok=True)
        return None
    spec = experiment.spec(study.key, best["values"], seed=experiment.config.search_seed)
    spec = replace(spec, task_config=spec.task_config | {"train_on": experiment.config.retrain_on})
    score = judged(best, again, rows, rule, metric)
    selection = {
        **place,
        "metric": metric.name,
        "trial": best["number"],
        "val_score": score,
        "val_scores": confirmed(rows, again, metric).get(best["number"], [best["score"]]),
        "values": best["values"],
        "hparams": column_values(experiment, study.key, best["values"]),
        "state": best["state"],
        "rule": rule_text(best, rule, metric),
        "spec": spec.to_json(),
        "config": ledger.config_hash(spec.to_json()),
        "study_hash": ledger.content_hash(summary),
    }
    write_json(folder.selection, selection)
    return Selected(study.key.name, best["number"], score)


def write_selections(run: RunDir, experiment: Experiment, studies: Studies) -> list[Selected]:
    """``study.json`` and ``selection.json`` of every study; what was selected."""
    chosen = [_write_study(run, experiment, study) for study in studies.by_name.values()]
    return [selected for selected in chosen if selected is not None]
