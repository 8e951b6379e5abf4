"""What a run used that its figures do not show by themselves."""

import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from cotuning_tune.base.names import JOINT
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs.snapshot import DataRecord

CO_TUNING, DIRECT = "co_tuning", "direct"


def begins_random(weights: str, environment: Mapping[str, Any]) -> bool:
    """Whether every training began with random weights: asked for, or of a backbone that has no others."""
    return bool(weights == "random" or environment.get("source", {}).get("random"))


def backbone_remarks(experiment: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    """What every training began with; where that is random, which methods have no use for it."""
    listed, weights = experiment.get("backbones") or experiment["backbone"], experiment.get("weights", "")
    one = isinstance(listed, str) or len(listed) == 1
    name = listed if isinstance(listed, str) else ", ".join(listed)
    head = f"Backbone: {name}, every training from" if one else f"Backbones: {name}, every training from"
    if not begins_random(weights, environment):
        known = (
            f"the weights of {PurePath(weights).name}"
            if weights
            else f"{'its' if one else 'their'} pre-trained weights"
        )
        if random := environment.get("source", {}).get("random_of", []):
            known += f"; but those of {', '.join(random)} are random: compare it with the others for speed alone"
        return [f"{head} {known}."]
    remarks = [f"{head} the same random weights: nothing learned before is transferred."]
    if using := environment.get("source", {}).get("head_used_by", []):
        named, them = " and ".join(using), "it is" if len(using) == 1 else "they are"
        remarks.append(
            f"The source head is random and knows no classes: {named} cannot show here what {them} made for."
        )
    return remarks


def overlap_remarks(experiment: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    """A warning for each task whose images are documented to be among those that weights are pre-trained on.

    None where every training began with random weights.
    """
    if begins_random(experiment.get("weights", ""), environment):
        return []
    return [
        f"WARNING: {task}: {overlap}: weights that were pre-trained on ImageNet may have seen its test images, and its"
        " accuracy then flatters them; methods that begin with the same weights still compare on equal terms."
        for task, overlap in environment.get("overlaps", {}).items()
    ]


def data_remarks(record: DataRecord) -> list[str]:
    """What the splits have in common, and a warning for each change of the data that was accepted meanwhile."""
    notes = [f"{line}." for task in record["tasks"].values() for line in task.get("notes", [])]
    return notes + [
        f"WARNING: the data of {change['task']} changed during the run, which was accepted on"
        f" {time.strftime('%Y-%m-%d', time.gmtime(change['since']))}: {change['changes']}; what was trained before and"
        " after is not of the same data."
        for change in record["accepted"]
    ]


def direct_remarks(studies: list[StudyResult]) -> list[str]:
    """A remark where co-tuning learned its relationship by the direct approach: in trials, or in what was chosen.

    Of tagged sentences it reads the training split alone.
    """
    studies = [s for s in studies if CO_TUNING in _kind(s).split(JOINT) and s.examples != "sentences"]
    tried = {value for study in studies for trial in study.trials for value in _approaches(trial["values"])}
    mine = [_approaches(study.selection["spec"]["method_config"]) for study in studies if study.selection]
    if not any(DIRECT in found for found in (tried, *mine)):
        return []
    told = "co_tuning approach = direct reads the labels of the validation split: its validation score flatters it"
    if len(tried) > 1:
        count = sum(DIRECT in found for found in mine)
        told += f"; that favours it where both approaches are searched ({count} of {len(mine)} studies chose it)"
    return [f"{told}."]


def _kind(study: StudyResult) -> str:
    """The method of a study, which may be a variant with a name of its own."""
    return str((study.selection or {}).get("spec", {}).get("method", study.method))


def _approaches(values: Mapping[str, Any]) -> set[Any]:
    """Co-tuning's approach among these values, whatever its study is named or its method combined with."""
    return {value for key, value in values.items() if key.rpartition("/")[2] == "approach"}
