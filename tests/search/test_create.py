"""The folder of a run: found again by the same file, refused to another, made anew where nothing ran yet."""

from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import read_experiment
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.driver import create_run, load_experiment

TEXT = '[experiment]\ntasks = ["synthetic"]\nmethods = ["bss"]\nbackbone = "tiny_cnn"\ntrials = {trials}\n'


def create(folder: Path, trials: int) -> RunDir:
    path = folder / "mine.toml"
    path.write_text(TEXT.format(trials=trials))
    return create_run(read_experiment(path), folder / "runs", ["test"])


def test_the_same_file_finds_its_run(tmp_path: Path) -> None:
    """The same experiment goes on in the same folder, and is read back from it."""
    run = create(tmp_path, 4)
    run.studies_folder.mkdir()
    assert create(tmp_path, 4) == run
    assert load_experiment(run).config.trials == 4


def test_a_run_is_its_owners(tmp_path: Path) -> None:
    """A new run's folder can be read by its owner alone; one that was opened to others stays so."""
    run = create(tmp_path, 2)
    assert run.path.stat().st_mode & 0o777 == 0o700
    run.path.chmod(0o755)
    assert create(tmp_path, 3).path.stat().st_mode & 0o777 == 0o755


def test_another_file_is_refused_once_a_trial_began(tmp_path: Path) -> None:
    """A changed experiment does not mix with the trials of the old one."""
    create(tmp_path, 4).studies_folder.mkdir()
    with pytest.raises(UserError, match="different experiment file"):
        create(tmp_path, 5)


def test_a_run_refused_before_its_first_trial_is_made_anew(tmp_path: Path) -> None:
    """After a refusal (a GPU share, say) the corrected file may be run under the same name."""
    create(tmp_path, 4)
    assert load_experiment(create(tmp_path, 5)).config.trials == 5


def test_other_ranges_of_a_new_version_are_refused(tmp_path: Path) -> None:
    """Where the package's ranges have changed since, neither ``run`` nor ``resume`` goes on silently."""
    run = create(tmp_path, 4)
    run.studies_folder.mkdir()
    run.space_file.write_text(run.space_file.read_text().replace("1e-05", "1e-06"))
    for go_on in (lambda: create(tmp_path, 4), lambda: load_experiment(run)):
        with pytest.raises(UserError, match="differs from the ranges"):
            go_on()
