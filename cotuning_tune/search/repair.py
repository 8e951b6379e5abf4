"""What a kill may leave behind between the studies and the folders: found, told, put right."""

from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.base.files import move_folder, write_json, write_lines
from cotuning_tune.run.folder import RunDir, StudyDir
from cotuning_tune.run.records import Epoch, Values
from cotuning_tune.search.study import Studies, accuracy_of

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def repair(run: RunDir, studies: Studies) -> list[str]:
    """Bring the trial folders into line with the studies, the only truth; a line for each repair."""
    notices: list[str] = []
    for name, study in studies.by_name.items():
        folder = run.study(name)
        notices += [
            f"{name}: trial {n} was being drawn when its driver died: drawn again" for n in study.finish_drawing()
        ]
        notices += _set_aside_strangers(folder, len(study.trials()))
        notices += [line for trial in study.trained() for line in _repair_trial(folder, trial)]
    return notices


def _set_aside_strangers(folder: StudyDir, count: int) -> list[str]:
    """Rename folders of trials that the study does not know: their numbers will be given to others."""
    notices = []
    for path in sorted((folder.path / "trials").glob("[0-9]*")):
        if path.name.isdigit() and int(path.name) >= count:
            aside = path.with_name(f"{path.name}.unknown")
            while aside.exists():
                aside = aside.with_name(aside.name + "+")
            move_folder(path, aside)
            notices.append(f"{folder.name}: the study knows no trial {int(path.name)}, its folder is now {aside.name}")
    return notices


def _repair_trial(folder: StudyDir, trial: FrozenTrial) -> list[str]:
    files = folder.trial(trial.number)
    if trial.state in ENDED and not files.result.exists():
        write_json(files.result, _result(trial))
        if not files.metrics.exists():
            write_lines(files.metrics, _rows(trial))
        return [f"{folder.name}: the result of trial {trial.number} was missing and is written again from its study"]
    if trial.state == TrialState.RUNNING and trial.intermediate_values and not files.path.exists():
        return [f"{folder.name}: the folder of trial {trial.number} is gone, it is trained again from its start"]
    return []


def _rows(trial: FrozenTrial) -> list[Epoch]:
    return [{"epoch": step, "val_accuracy": value} for step, value in sorted(trial.intermediate_values.items())]


def _result(trial: FrozenTrial) -> Values:
    attrs = trial.user_attrs
    return {
        "state": trial.state.name,
        "value": None if trial.state == TrialState.FAIL else accuracy_of(trial),
        "epochs": len(trial.intermediate_values),
        "seconds": attrs.get("seconds", 0.0),
        "reason": attrs.get("reason", ""),
        "restored": True,
    }
