"""What is asked of a run, from whichever door: the command line, Python, a service."""

from dataclasses import dataclass, field
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place
from cotuning_tune.base.names import check_name
from cotuning_tune.base.secrets import Secret
from cotuning_tune.cluster.connection import check_address
from cotuning_tune.experiment import Experiment
from cotuning_tune.runs.budget import check_searches
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.places import check_optuna_storage, check_place
from cotuning_tune.runs.share import check_concurrent
from cotuning_tune.search.checks import check_studies
from cotuning_tune.search.driver import create_run, load_experiment
from cotuning_tune.search.storage import set_storage
from cotuning_tune.trackers import check_installed


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The Ray cluster to work on: the one at ``address``, else one that is started on this machine.

    ``cpus``: of this machine (None: all). Of a running cluster, ``nodes`` must have joined before anything starts,
    and with ``require_token`` it must ask for one. Raises UserError for less than one core, or for no address.
    """

    address: str | None = None
    cpus: int | None = None
    nodes: int = 0
    require_token: bool = False

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpus < 1:
            raise UserError(f"--num-cpus {self.cpus}: at least 1 core is needed")
        check_address(self.address)


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run that is made, or found as it was made, in ``storage`` (a folder or ``s3://BUCKET/PREFIX``).

    ``optuna_storage``: URL of the database of the studies, '' for a journal in the run's folder; ``warm_from``: a
    run whose finished trials the sampler shall know; ``command``: for the record, how the run was asked for, kept
    without the URL's password. A plain text for the URL is taken too.
    Raises UserError where files go into an object store and no database keeps the studies.
    """

    storage: str | Path
    optuna_storage: Secret = field(default_factory=Secret)
    warm_from: str | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "optuna_storage", Secret(self.optuna_storage))
        object.__setattr__(self, "command", tuple(map(self.optuna_storage.cover, self.command)))
        check_optuna_storage(place(self.storage), self.optuna_storage)


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that is asked. Raises UserError where it cannot be done.

    ``run``: where, as a new run or one that exists (``experiment_of`` reads its experiment); ``search`` and
    ``retrain``: the stages, the report follows the second; ``searches``: how many searches in all, None as the run has;
    ``small``: trials that small searches beside an existing run's own share out, to compare its methods;
    ``concurrent``: how many trainings run at the same time at most, None as many as fit into the whole cluster;
    ``on_end``: whether the experiment's own command may run at the end; ``accept_data_change``: continue with
    data other than those the run began with, on the record.
    """

    experiment: Experiment
    run: RunDir | NewRun
    search: bool = True
    retrain: bool = True
    searches: int | None = None
    small: int = 0
    concurrent: int | None = None
    cluster: Cluster = field(default_factory=Cluster)
    on_end: bool = False
    accept_data_change: bool = False

    def __post_init__(self) -> None:
        check_searches(self.searches, self.experiment.config.hours)
        check_concurrent(self.concurrent)
        check_name(self.experiment.name, "the run's name", "--name")

    @property
    def path(self) -> Path:
        """The run's folder, which may not be there yet."""
        return self.run.path if isinstance(self.run, RunDir) else place(self.run.storage) / self.experiment.name

    def opened(self) -> tuple[RunDir, dict[str, int] | None]:
        """The run's folder, and the checkpoints' sizes where everything had to be checked before it was made.

        Raises UserError where this user cannot write there, or a tracker is not installed.
        """
        where = self.run.path if isinstance(self.run, RunDir) else place(self.run.storage)
        check_installed(self.experiment.config.track, where)
        check_place(self.path)
        if isinstance(self.run, RunDir):
            return self.run, None
        sizes = check_studies(self.experiment)
        run = create_run(self.experiment, where, self.run.command, self.run.warm_from)
        if self.run.optuna_storage:
            set_storage(run, self.run.optuna_storage.reveal())
        return run, sizes


def experiment_of(path: str | Path) -> tuple[RunDir, Experiment]:
    """An existing run, and its experiment. Raises UserError where there is none, or another version made it."""
    run = RunDir.open(path)
    return run, load_experiment(run)
