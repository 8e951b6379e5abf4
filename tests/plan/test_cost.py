"""The sums of a plan, worked out by hand."""

import dataclasses
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.tables import size
from cotuning_tune.experiment import Resources, parse
from cotuning_tune.plan.concurrency import ConcurrencyPlan, plan_concurrency, share_of, trials_per_gpu
from cotuning_tune.plan.cost import Plan, make_plan
from cotuning_tune.plan.inventory import take_inventory
from cotuning_tune.plan.speeds import Footprint, Speed, assumed_speeds, ratio_notes
from cotuning_tune.plan.write import lines_of, method_table, plan_json
from tests.plan.conftest import experiment_text

# 3 classes x 10 images: at 1.0 24 to train (2 steps of 10 a pass), 6 to validate; at 0.5 12 (1 step of 10) and 3.
SPEED = Speed(step_s=2.0, batch=8, image_s=0.5, steps=20, start_s=3.0, keep_s=1.0, setup_s=10.0, setup_images=30)


def planned(count: int = 4, train: str = "", state_every: float = 0, **experiment: object) -> Plan:
    """Two methods at two rates, the second method at half the speed and without a set-up; ``train``: of it."""
    text = experiment_text(methods=("fine_tune", "co_tuning"), rates=[0.5, 1.0], **experiment)
    text = text.replace("batch_size = 10\n", f"batch_size = 10\n{train}\n")
    text += f"\n[resources]\nstate_every = {state_every}"
    made = parse(text, "made")
    slow = Speed(step_s=4.0, batch=8, image_s=0.5, setup_s=0.0, memory_bytes=7)
    footprints = {"fine_tune": Footprint(100, 40), "co_tuning": Footprint(200, 50)}
    inventories = {"synthetic": take_inventory(made, "synthetic")}
    return make_plan(
        made, inventories, {"fine_tune": SPEED, "co_tuning": slow}, footprints, ConcurrencyPlan(count, "asked")
    )


def test_one_study() -> None:
    """A trial is its start, its steps, its validations and its states; a seed is a trial, a start and a test."""
    cost = planned().studies[2]
    assert (cost.study.rate, cost.study.method, cost.batches, cost.steps, cost.rows) == (1.0, "fine_tune", 2, 6, 3)
    assert (cost.trained, cost.validated, cost.tested) == (60, 18, 30)
    assert cost.trial_s == 3 + 60 / 8 * 2 + 18 * 0.5 + 2 * 1
    assert cost.seed_s == cost.trial_s + 1 + 3 + 30 * 0.5
    assert cost.setup_s == 10.0


def test_the_setup_grows_with_the_images() -> None:
    """At half the labels, 15 images in place of 30, a set-up takes half of its time."""
    assert [cost.setup_s for cost in planned().of("fine_tune")] == [5.0, 10.0]
    assert [cost.setup_s for cost in planned().of("co_tuning")] == [0.0, 0.0]


def test_counts_of_the_whole() -> None:
    """Four studies of 2 trials, both confirmed, and 3 seeds: trainings, epochs and images by hand."""
    plan = planned()
    assert (plan.trials, plan.seeds, plan.rows) == (8, 12, (48, 36))
    assert plan.images == (2 * 7 * (30 + 60), 2 * 7 * (9 + 18) + 4 * 3 * 30)


@pytest.mark.parametrize(
    ("experiment", "each", "trials", "trainings", "seeds", "setups"),
    [
        ({}, "2 trials + 2 on another split + 3 retrained", 8, 28, 12, 2),
        ({"trials": 9}, "9 trials + 3 on another split + 3 retrained", 36, 60, 12, 2),
        ({"selection": "max"}, "2 trials + 3 retrained", 8, 20, 12, 1),
        ({"val_splits": 3}, "2 trials on 3 splits each + 2 on another split + 3 retrained", 8, 44, 12, 4),
        ({"aim": "methods", "trials": 9}, "2 searches x (4 trials + 1 retrained)", 32, 40, 8, 2),
        (
            {"aim": "methods", "trials": 6, "searches": 3, "val_splits": 2},
            "3 searches x (2 trials on 2 splits each + 1 retrained)",
            24,
            60,
            12,
            6,
        ),
    ],
)
def test_the_line_of_trainings(
    experiment: dict[str, object], each: str, trials: int, trainings: int, seeds: int, setups: int
) -> None:
    """A line counts every training of search and retraining; hours and epochs follow the same numbers."""
    plan = planned(**experiment)
    many = f"({each})"
    assert f"trainings: 4 studies x {many} = {trainings}" in lines_of(plan)
    assert (plan.trials, plan.seeds, plan.setups) == (trials, seeds, setups)
    searched, once = trainings - seeds, sum(cost.trial_s for cost in plan.studies)
    assert plan.search_s(plan.studies) == searched / 4 * once + setups * 15
    assert sum(plan.rows) == trainings * 3
    assert [int(row[1]) for row in method_table(plan).rows] == [trials / 2] * 2


@pytest.mark.parametrize(("given", "trials"), [({"trials": 0}, 14), ({"trials": 20}, 14), ({"trials": 3}, 3)])
def test_hours_give_trials(given: dict[str, object], trials: int) -> None:
    """Of 0.1 hours four at a time take 13.5 rounds of 106.5 trial-seconds; the round that has begun is finished."""
    plan = planned(hours=0.1, **given)
    assert (plan.trials, plan.experiment.trials) == (4 * trials, trials)
    assert plan.notes[0].startswith(f"experiment.hours = 0.1: time for about {trials} trial(s) per study")


def test_hours_without_a_speed() -> None:
    """One trial per study is planned, which a note says."""
    made = parse(experiment_text(hours=8, trials=0), "made")
    inventories = {"synthetic": take_inventory(made, "synthetic")}
    plan = make_plan(made, inventories, {}, {"fine_tune": Footprint(1, 1)}, ConcurrencyPlan(1, ""))
    assert plan.trials == 1
    assert plan.notes[0] == "experiment.hours = 8: without a speed planned with 1 trial(s) per study"


def test_which_question_is_answered() -> None:
    """A line says which of both questions the run can answer, and what would answer the other one."""

    def answer(**experiment: object) -> str:
        (line,) = [line for line in lines_of(planned(**experiment)) if line.startswith("answers ")]
        return line

    assert answer().endswith("which method is better: --aim methods, or more data sets")
    compared = answer(aim="methods", trials=8)
    assert compared.startswith("answers which method is better, searched with 4 trials, over 2 searches")
    assert compared.endswith("--aim model")


def test_hours_of_the_whole() -> None:
    """Trial-seconds are the sums over the studies; few at a time share them, of many the longest counts."""
    plan = planned()
    trials = [3 + 7.5 + 4.5 + 2, 15 + 4.5, 3 + 15 + 9 + 2, 30 + 9]
    seeds = [trials[0] + 19, trials[1] + 15, trials[2] + 19, trials[3] + 15]
    assert [cost.trial_s for cost in plan.studies] == trials
    assert [cost.seed_s for cost in plan.studies] == seeds
    search, retrain = 4 * sum(trials) + 2 * 15, 3 * sum(seeds)
    assert (plan.search_s(plan.studies), plan.retrain_s(plan.studies)) == (search, retrain)
    assert plan.wall_s == max(search / 4, 39) + max(retrain / 4, 54)
    assert planned(1000).wall_s == 39 + 54


def test_ten_crops_cost_ten_passes() -> None:
    """A test on ten crops sends every test image ten times through the network, a validation once."""
    one, ten = planned().studies[2], planned(test_crops="ten").studies[2]
    assert (ten.tested, ten.validated, ten.trial_s) == (300, one.validated, one.trial_s)
    assert ten.seed_s - one.seed_s == 270 * 0.5


def test_iterations_count_in_place_of_epochs() -> None:
    """100 iterations, a validation every 30: 100 steps and 4 validations at every rate."""
    text = experiment_text(rates=[0.5, 1.0]).replace("epochs = 3", "iterations = 100\ninterval = 30")
    made = parse(text, "made")
    inventories = {"synthetic": take_inventory(made, "synthetic")}
    studies = make_plan(made, inventories, {}, {"fine_tune": Footprint(1, 1)}, ConcurrencyPlan(1, "")).studies
    assert [(c.steps, c.rows, c.trained, c.validated) for c in studies] == [(100, 4, 1000, 12), (100, 4, 1000, 24)]


def test_bytes() -> None:
    """States of running trainings (two, and kept weights), the retrained models, and all that is written."""
    plan = planned()
    assert plan.running == 4 * 2 * 200
    assert plan.models == 3 * 2 * (40 + 50)
    assert plan.written == (4 * 2 + 3 * 3) * 2 * (100 + 200)
    assert (plan.cache, plan.memory) == (0, 7)
    assert planned(1000).running == 8 * 400
    assert planned(train='epoch = "best"').running == 4 * 2 * (200 + 50)


def test_states_are_written_by_time() -> None:
    """Epochs of 4, 6.5, 8 and 13 s, of which a kill may cost 30 s: of three only the slowest study's second is kept."""
    plan, each = planned(state_every=30), planned()
    assert [cost.saves for cost in plan.studies] == [0, 0, 0, 1]
    assert plan.studies[0].trial_s == each.studies[0].trial_s - 2 * 1
    assert plan.written == 3 * 2 * (100 + 200) + 7 * 200
    assert planned(state_every=10).studies[3].saves == 2


def test_an_epoch_is_validated_where_something_asks() -> None:
    """The last one always; each where the best is kept, or early stopping looks."""

    def validated(**given: Any) -> list[int]:
        return [cost.validations for cost in planned(**given).studies]

    assert validated(validate="used") == [1] * 4
    assert validated(validate="each") == validated(validate="used", pruner="median") == [3] * 4
    assert validated(validate="used", train='epoch = "best"') == [3] * 4


def test_without_speeds_there_are_counts() -> None:
    """Where nothing was measured the times are dashes, everything else stands."""
    whole = planned()
    plan = make_plan(whole.experiment, whole.inventories, {}, whole.footprints, whole.concurrency)
    assert [row[2:] for row in method_table(plan).rows] == [["-"] * 5, ["-"] * 5]
    assert "time: not measured" in lines_of(plan)
    assert "search_s" not in plan_json(plan)["totals"]
    assert plan.images == whole.images


def test_the_table() -> None:
    """By method: trials, steps a second, mean seconds of a trial and a set-up, hours."""
    rows = {row[0]: row[1:] for row in method_table(planned()).rows}
    assert rows["co_tuning"] == ["4", "0.25", "29.2", "0", "0.065", "0.0737"]
    assert rows["fine_tune"][:4] == ["4", "0.5", "23", "7.5"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("batch_size = [10, 20]", "batch_size is searched: planned with 20"),
        ("batch_size = { low = 20, high = 40 }", "batch_size is searched: planned with 40"),
    ],
)
def test_searched_counts_are_told(extra: str, words: str) -> None:
    """Where the search itself changes the counts, the value that was planned with is told."""
    made = parse(experiment_text().replace("batch_size = 10", extra), "made")
    plan = make_plan(made, {"synthetic": take_inventory(made, "synthetic")}, {}, {}, ConcurrencyPlan(1, ""))
    assert [words in note for note in plan.notes].count(True) == 1


def test_speeds_from_a_throughput() -> None:
    """100 images/s: a step of 50 images takes half a second, DELTA's 22 % more; unknown methods are named."""
    speeds = assumed_speeds(["fine_tune", "delta", "newest"], 100.0, 50)
    assert [round(speed.step_s, 9) for speed in speeds.values()] == [0.5, 0.61, 0.5]
    assert speeds["delta"].image_s == pytest.approx(1 / 300)
    known, unknown, _ = ratio_notes(speeds)
    assert "delta 1.22" in known
    assert unknown.endswith(": newest")


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_throughputs(number: float) -> None:
    """A throughput must be a finite number above 0."""
    with pytest.raises(UserError, match="--images-per-second"):
        assumed_speeds(["fine_tune"], number, 48)


@pytest.mark.parametrize(
    ("share", "concurrency", "gpus", "count"),
    [(-1.0, None, 4, 4), (0.3, None, 4, 12), (0.25, None, 1, 4), (2.0, None, 5, 2), (0.0, 7, None, 7)],
)
def test_slots(share: float, concurrency: int | None, gpus: int | None, count: int) -> None:
    """GPUs are shared as [resources] says; a number of trials at a time is taken as it is."""
    assert plan_concurrency(Resources(gpu_per_trial=share), concurrency, gpus).trials == count


@pytest.mark.parametrize(
    ("share", "concurrency", "gpus", "words"),
    [
        (-1.0, 0, None, "--concurrent-trials 0"),
        (-1.0, None, -2, "--gpus -2"),
        (-1.0, 1, 1, "give one"),
        (0.0, None, 1, "give --concurrent-trials"),
        (2.0, None, 1, "fewer"),
    ],
)
def test_impossible_slots(share: float, concurrency: int | None, gpus: int | None, words: str) -> None:
    """Numbers below 1, both together, and GPUs that no trial can use are refused."""
    with pytest.raises(UserError, match=words):
        plan_concurrency(Resources(gpu_per_trial=share), concurrency, gpus)


@pytest.mark.parametrize(("trial", "fitting"), [(79, 1), (33, 1), (32, 2), (8, 7), (7, 8), (1, 8)])
def test_trials_on_a_gpu(trial: int, fitting: int) -> None:
    """80 GiB hold trials with a fifth more than their peak and a context of 1 GiB; eight at most, one at least."""
    assert trials_per_gpu(trial << 30, 80 << 30) == fitting


def test_shares_fill_a_gpu() -> None:
    """As many trials as a share was made for fit on a GPU in Ray's ten-thousandths, and no more."""
    for trials in range(1, 9):
        units = round(share_of(trials) * 1e4)
        assert 10_000 // units == trials


def test_sizes_read_well() -> None:
    """Bytes in powers of 1000, two digits at least."""
    assert [size(n) for n in (0, 850, 999_700, 4_300_000_000, 12e12)] == ["0 B", "850 B", "1.0 MB", "4.3 GB", "12 TB"]


def test_a_run_takes_longer_than_its_trainings() -> None:
    """Six starts of a process, and a little for each of the 28 trainings, come on top."""
    plan = planned()
    slow = dataclasses.replace(plan, process_s=2.0)
    assert slow.overhead_s == pytest.approx(2 * (6 + 28 * 0.015))
    assert slow.wall_s == pytest.approx(plan.wall_s + slow.overhead_s)


def test_what_grows_with_the_images() -> None:
    """A method that keeps its images leaves more at the full rate than at half of it."""
    plan = planned()
    grown = {"fine_tune": Footprint(100, 40, 10, 12), "co_tuning": Footprint(200, 50)}
    more = dataclasses.replace(plan, footprints=grown)
    assert [more.footprint(cost).model for cost in more.of("fine_tune")] == [40, 160]
    assert more.models == plan.models + 3 * 120
    assert more.running == 4 * 2 * 220
