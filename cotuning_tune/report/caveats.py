"""What a run used that its figures do not show by themselves."""

from typing import Any

from cotuning_tune.report.results import StudyResult

DIRECT = "direct"


def direct_remarks(studies: list[StudyResult]) -> list[str]:
    """A remark where co-tuning learned its relationship by the direct approach: in trials, or in what was chosen."""
    mine = [study for study in studies if study.method == "co_tuning"]
    chosen = [c for c in mine if c.selection and _approach(c.selection) == DIRECT]
    tried = {trial["values"].get("co_tuning/approach") for study in mine for trial in study.trials}
    if not chosen and DIRECT not in tried:
        return []
    told = "co_tuning approach = direct reads the labels of the validation split: its validation accuracy flatters it"
    if len(tried - {None}) > 1:
        told += f"; that favours it where both approaches are searched ({len(chosen)} of {len(mine)} studies chose it)"
    return [f"{told}."]


def _approach(selection: dict[str, Any]) -> Any:
    return selection.get("spec", {}).get("method_config", {}).get("approach")
