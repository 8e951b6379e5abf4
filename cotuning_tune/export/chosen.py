"""Which model of a run is exported: the study's retraining of the lowest seed, whatever its test score."""

from dataclasses import dataclass
from typing import Any

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.base.files import read_json
from cotuning_tune.report.results import StudyResult, read_studies
from cotuning_tune.runs.folder import RunDir, TrialDir


@dataclass(frozen=True)
class Winner:
    """A retrained model of a study's chosen configuration; ``seed_named``: not taken as the lowest."""

    run: RunDir
    study: StudyResult
    result: dict[str, Any]
    seed_named: bool

    @property
    def seed(self) -> int:
        return int(self.result["seed"])

    @property
    def seeds(self) -> list[dict[str, Any]]:
        """The results of all seeds of this configuration, by seed."""
        return seeds_of(self.study)

    @property
    def folder(self) -> TrialDir:
        return self.run.study(self.study.name).retrain(self.seed)

    @property
    def spec(self) -> dict[str, Any]:
        """Of its training."""
        spec: dict[str, Any] = read_json(self.folder.config)["spec"]
        return spec

    @property
    def title(self) -> str:
        return f"{self.study.shown} (run {self.run.name}, seed {self.seed})"


def find_study(run: RunDir, name: str) -> StudyResult:
    """The study of that name with a chosen configuration. Raises UserError that names all studies for another name."""
    studies = {study.name: study for study in read_studies(run)}
    if name not in studies:
        raise unknown("study", name, studies)
    if studies[name].selection is None:
        raise UserError(f"{name} has no chosen configuration: none of its trials succeeded")
    return studies[name]


def seeds_of(study: StudyResult) -> list[dict[str, Any]]:
    """The retraining's results, without those of an earlier selection."""
    return [seed for seed in study.seeds if seed["config"] == (study.selection or {}).get("config")]


def find_winner(run: RunDir, name: str, seed: int | None = None) -> Winner:
    """The model of the seed, by default of the lowest that came to an end; test scores are not looked at.

    Raises UserError where there is no such model.
    """
    study = find_study(run, name)
    own = seeds_of(study)
    if not own:
        earlier = " of its present selection" if study.seeds else ""
        raise UserError(f"{name} has no retrained model{earlier}: cotuning-tune retrain {run.path}")
    done = [s for s in own if s["state"] == "COMPLETE"]
    possible = ", ".join(str(s["seed"]) for s in done) or "none"
    wanted = done[:1] if seed is None else [s for s in own if s["seed"] == seed]
    if not wanted and seed is not None:
        raise UserError(f"{name} has no retrained seed {seed}; possible: {possible}")
    if not wanted or wanted[0]["state"] != "COMPLETE":
        failed = (wanted or own)[0]
        raise UserError(f"{name}: seed {failed['seed']} failed ({failed['reason']}); possible: {possible}")
    winner = Winner(run, study, wanted[0], seed is not None)
    if not winner.folder.model.is_file():
        raise UserError(f"{winner.folder.model} is missing")
    return winner
