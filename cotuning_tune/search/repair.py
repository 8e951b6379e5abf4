"""What a kill, or a damaged journal, leaves between the studies and the folders: found, told, put right.

The studies are the truth. Where they have lost trials (a journal that was emptied, damaged, or restored from an older
copy), these are written again from their folders, which hold all that a study knows.
"""

from collections.abc import Iterator
from typing import cast

from optuna.trial import FrozenTrial, TrialState, create_trial

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import move_folder, read_json, write_json, write_lines
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.records import Epoch, TrialResult, Values, read_rows, scores_of
from cotuning_tune.search.rows import RESULT, facts_of, result_of, score_of
from cotuning_tune.search.study import OptunaStudy, Studies
from cotuning_tune.training.state import remove_states

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def repair(run: RunDir, studies: Studies) -> list[str]:
    """Bring studies and trial folders into line; a line for each repair."""
    notices = adopt_lost(run, studies)
    for name, study in studies.by_name.items():
        folder = run.study(name)
        notices += _set_aside_strangers(folder, len(study.trials()))
        strange = [t.number for t in study.trials() if study.is_strange(t)]
        notices += [f"{name}: trial {n} was begun by another program, it is left alone" for n in strange]
        notices += [line for trial in study.trained() for line in _repair_trial(folder, trial)]
    return notices


def adopt_lost(run: RunDir, studies: Studies) -> list[str]:
    """Give the studies what the folders know and they do not: trials, and results. Writes no file.

    A reader does it too, to show what the next driver will find.
    """
    notices: list[str] = []
    for name, study in studies.by_name.items():
        folder = run.study(name)
        if lost := [study.adopt(trial) for trial in _lost_trials(folder, study)]:
            numbers = f"{lost[0]} to {lost[-1]}" if len(lost) > 1 else f"{lost[0]}"
            notices.append(f"{name}: its study had lost trial {numbers}: written again from the folders")
        for number in list(study.orphans):
            files = folder.trial(number)
            if files.result.exists():
                study.report(number, read_rows(files.metrics))
                study.end_as(number, cast(TrialResult, read_json(files.result)))
                notices.append(f"{name}: trial {number} had ended as its driver died: its study is told now")
    return notices


def _lost_trials(folder: StudyDir, study: OptunaStudy) -> Iterator[FrozenTrial]:
    """The trials behind the study's last one whose folders are whole, up to the first that is not."""
    number = len(study.trials())
    while (trial := _from_folder(folder.trial(number), study)) is not None:
        yield trial
        number += 1


def _from_folder(files: TrialDir, study: OptunaStudy) -> FrozenTrial | None:
    """A trial as its folder tells of it; None where it does not tell enough."""
    try:
        config = read_json(files.config)
        params, attrs = config["params"], config["attrs"]
        history = read_rows(files.metrics)
        result = read_json(files.result) if files.result.exists() else None
        state = TrialState[result["state"]] if result else TrialState.RUNNING
        ended = {RESULT: facts_of(result)} if result else {}
        steps = scores_of(history)
        value = result["value"] if result and state != TrialState.FAIL else None
        if state == TrialState.PRUNED and steps:
            value = steps[max(steps)]
        return create_trial(
            state=state,
            value=value,
            params=params,
            distributions=study.distributions,
            user_attrs={**attrs, **ended},
            intermediate_values=steps,
        )
    except (UserError, KeyError, TypeError, ValueError):
        return None


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
    if trial.state in ENDED and files.state.exists():  # its driver was killed between the study and this
        remove_states(files)
    if trial.state == TrialState.RUNNING and trial.intermediate_values and not files.path.exists():
        return [f"{folder.name}: the folder of trial {trial.number} is gone, it is trained again from its start"]
    return []


def _rows(trial: FrozenTrial) -> list[Epoch]:
    return [{"epoch": step, "val_score": value} for step, value in sorted(trial.intermediate_values.items())]


def _result(trial: FrozenTrial) -> Values:
    known = result_of(trial)
    return {
        "state": trial.state.name,
        "value": None if trial.state == TrialState.FAIL else score_of(trial),
        "epochs": known.get("epochs", len(trial.intermediate_values)),
        "seconds": known.get("seconds", 0.0),
        "reason": known.get("reason", ""),
        "restored": True,
    }
