"""``a+b``: the terms of both, each with its own space; off where both are off."""

import re

import pytest
import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import parse
from cotuning_tune.methods import Method, method
from cotuning_tune.methods._combined import Combined
from cotuning_tune.search.space import first_points
from cotuning_tune.testing import assert_same_weights, move, terms_of, trainer_of

BASE = """
[experiment]
tasks = ["synthetic"]
methods = {methods}
backbone = "tiny_cnn"
[task]
size = 16
resize = 16
"""


def test_every_hook_asks_the_parts() -> None:
    own = {"refuse_without", "refuse_foreign_head"}
    hooks = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")} - own
    assert hooks
    assert hooks <= set(vars(Combined))


def test_terms_are_those_of_the_parts() -> None:
    both = trainer_of("bss+l2_sp")
    move(both.model)
    batch = both.load_batch(list(range(8)))
    found = terms_of(both, batch)
    for name in ("bss", "l2_sp"):
        alone = trainer_of(name)
        move(alone.model)
        for term, value in terms_of(alone, batch).items():
            assert torch.equal(found.pop(term, value), value), term
    assert not found


def test_terms_of_one_name_carry_their_method() -> None:
    trainer = trainer_of("l2_sp+delta")
    terms = terms_of(trainer, trainer.load_batch(list(range(8))))
    assert {"l2_sp_head_norm", "delta_head_norm"} <= terms.keys()
    assert "head_norm" not in terms


@pytest.mark.parametrize(
    ("pair", "off", "alone"),
    [
        ("stoch_norm+co_tuning", {"co_tuning/weight": 0.0}, "stoch_norm"),
        ("stoch_norm+co_tuning", {"stoch_norm/probability": 1.0}, "co_tuning"),
        ("bss+label_smoothing", {"label_smoothing/weight": 0.0}, "bss"),
        ("bi_tuning+spd", {"bi_tuning/weight": 0.0}, "spd"),
    ],
)
def test_with_one_part_off_it_is_the_other(pair: str, off: dict, alone: str) -> None:
    pins = {"optim/weight_decay": 0.0, "optim/lr": 0.01}
    both, one = trainer_of(pair, config=off, **pins), trainer_of(alone, **pins)
    for trainer in (both, one):
        trainer.train_epoch()
        trainer.train_epoch()
    assert_same_weights(both.model.backbone, one.model.backbone)
    assert_same_weights(both.model.head, one.model.head)


def test_a_step_is_one_of_all_parts() -> None:
    """The first part's queues take the keys of the batch, and the second pulls back as it does alone."""
    pins = {"epochs": 40, "optim/lr": 0.3}
    both, one, off = (
        trainer_of(name, config=config, **pins)
        for name, config in (("bi_tuning+spd", {"bi_tuning/weight": 0.0}), ("spd", {}), ("spd", {"weight": 0.0}))
    )
    for trainer in (both, one, off):
        trainer.train_epoch()
        trainer.train_epoch()
    assert both.method.parts["bi_tuning"].next_T.sum() == 6 * 8
    assert_same_weights(both.model.backbone, one.model.backbone)
    assert not one.model.backbone.chain[0][0].weight.equal(off.model.backbone.chain[0][0].weight)


@pytest.mark.parametrize("name", ["spd", "bi_tuning", "l2_sp"])
def test_adapters_are_there_before_the_other_part(name: str) -> None:
    """In whatever order the two are named: what remembers, copies or holds the backbone has the adapters with it."""
    one, other = (trainer_of(pair, **{"optim/lr": 0.1}) for pair in (f"{name}+lora", f"lora+{name}"))
    for trainer in (one, other):
        trainer.train_epoch()
    assert_same_weights(one.model, other.model)


def test_flags_are_those_of_any_part() -> None:
    kind = method("stoch_norm+lwf")
    assert kind.uses_source_head
    assert not kind.reads_labels
    assert kind.rebuilt == ("parts.lwf.teacher", "parts.lwf.teacher_head")
    assert method("bss+l2_sp").replaces_weight_decay
    assert method("bss+bitfit").variant


def test_spaces_are_merged() -> None:
    """A part's own table holds for the pair too; the pair's table lies over it."""
    text = BASE.format(methods=["bss", "bss+l2_sp"]) + (
        "[methods.bss]\nweight = 0.5\nk = [1, 2]\n"
        '[methods."bss+l2_sp".bss]\nweight = { low = 1e-4, high = 1e-2, log = true }\n'
    )
    made = parse(text, "pairs")
    space = made.space("bss+l2_sp")
    assert made.space("bss")["bss/weight"].value == 0.5
    assert space["bss+l2_sp/bss/weight"].extremes == (1e-4, 1e-2)
    assert space["bss+l2_sp/bss/k"].extremes == (1, 2)
    assert space["bss+l2_sp/l2_sp/weight"].search is not None
    assert space["optim/weight_decay"].extremes == (0.0,)
    spec = made.spec(made.studies[1], {"bss+l2_sp/bss/k": 2}, 0)
    assert spec.method == "bss+l2_sp"
    assert spec.method_config["bss/k"] == 2


def test_off_is_off_for_all_parts() -> None:
    points = first_points(parse(BASE.format(methods=["bss+co_tuning"]), "pairs").space("bss+co_tuning"))
    assert [point.name for point in points] == ["published", "off"]
    assert dict.fromkeys(("bss+co_tuning/bss/weight", "bss+co_tuning/co_tuning/weight"), 0.0) == {
        key: value for key, value in (points[1].values | points[1].off).items() if key.endswith("/weight")
    }


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (["bss+bbs"], "no method 'bbs', did you mean 'bss'?"),
        (["bss+"], "no method ''"),
        (["bss+bss"], "names one of its parts twice"),
        (["fine_tune+bss"], "fine_tune does not combine with others"),
        (["bitfit+bss+lora"], "bitfit and lora each say what is trained"),
        (["bss+from_scratch"], "from_scratch does not combine with others"),
        (["bss+knn"], "knn does not combine with others"),
        (["bss+l2_sp", "l2_sp+bss"], "lists something twice"),
    ],
)
def test_what_cannot_be_is_refused(listed: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as problem:
        parse(BASE.format(methods=listed), "pairs")
    assert problem.value.key == "experiment.methods"


def test_a_part_of_a_pair_may_have_a_key_of_the_wrong_table() -> None:
    """A key that belongs to a part is told where it belongs."""
    with pytest.raises(UserError, match=r"\[methods.co_tuning\] approach"):
        parse(BASE.format(methods=["bss+co_tuning"]) + '[train]\napproach = "direct"\n', "pairs")


VARIANTS = '[methods.direct]\nmethod = "co_tuning"\napproach = "direct"\n'


def test_a_variant_is_a_method_under_a_name_of_its_own() -> None:
    """Its study carries the name; its trainings are the method's, with the variant's values."""
    made = parse(BASE.format(methods=["co_tuning", "direct"]) + VARIANTS, "variants")
    plain, direct = (made.spec(study, {}, 0) for study in made.studies)
    assert [study.name for study in made.studies] == ["synthetic-1.00-co_tuning", "synthetic-1.00-direct"]
    assert (plain.method, direct.method) == ("co_tuning", "co_tuning")
    assert (plain.method_config["approach"], direct.method_config["approach"]) == ("reverse", "direct")
    assert made.order("direct")[-1] == "direct/weight"
    assert [point.name for point in first_points(made.space("direct"))] == ["published", "off"]


def test_a_variant_of_a_pair() -> None:
    text = BASE.format(methods=["both"]) + '[methods.both]\nmethod = "bss+l2_sp"\nbss.k = 2\n[methods.bss]\nk = 3\n'
    made = parse(text, "variants")
    assert made.spec(made.studies[0], {}, 0).method_config["bss/k"] == 2
    assert made.space("both")["optim/weight_decay"].extremes == (0.0,)


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        ('[methods.direct]\nmethod = "co_tunin"\n', "methods.direct.method", "did you mean 'co_tuning'?"),
        ("[methods.direct]\nmethod = 1\n", "methods.direct.method", "a method's name in quotes is needed"),
        (f'{VARIANTS}[methods.bss]\nmethod = "lwf"\n', "methods.bss.method", "bss is a method itself"),
        (f'{VARIANTS}[methods."a b"]\nmethod = "bss"\n', "methods.a b", "must not hold ' '"),
        ('[methods.direct]\nmethod = "bss"\nweigth = 1\n', "methods.direct.weigth", "weight"),
        ("[methods]\ndirect = 1\n", "methods.direct", "a table of keys is needed"),
        ("", "experiment.methods", "no method 'direct'"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(table: str, key: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as problem:
        parse(BASE.format(methods=["direct"]) + table, "variants")
    assert problem.value.key == key


def test_a_misplaced_key_is_sent_to_the_variants_table() -> None:
    with pytest.raises(UserError, match=r"\[methods.direct\] approach"):
        parse(BASE.format(methods=["direct"]) + VARIANTS + '[train]\napproach = "direct"\n', "variants")


@pytest.mark.parametrize("pair", ["wise_ft+lora", "lora+wise_ft", "lora+l2_sp", "l2_sp+lora", "delta+lora", "lora+lwf"])
def test_what_is_kept_of_a_pair_is_a_plain_network(pair: str) -> None:
    """In either order: finite, with fine-tuning's weights by name, and each part has changed what is kept."""
    trainer, plain = trainer_of(pair, **{"optim/lr": 0.01}), trainer_of("fine_tune")
    rows = [trainer.train_epoch(), trainer.train_epoch()]
    assert all(torch.tensor(value).isfinite() for row in rows for value in row.values())
    weights = trainer.network.state_dict()
    assert {key: value.shape for key, value in weights.items()} == {
        key: value.shape for key, value in plain.model.state_dict().items()
    }
    first = "backbone.chain.0.0.weight"
    assert not weights[first].equal(plain.model.state_dict()[first])
    if "wise_ft" in pair:
        torch.testing.assert_close(
            weights["head.bias"],
            torch.lerp(trainer.method.each["wise_ft"].probe_head.bias, trainer.model.head.bias, 0.5),
        )


def test_the_most_that_stands_still_counts() -> None:
    method = trainer_of("gradual_unfreezing+lp_ft", config={"lp_ft/probe": 0.3}).method
    assert [round(method.still(done), 3) for done in (0.0, 0.2, 0.4, 0.6)] == [1.0, 1.0, 0.333, 0.0]
