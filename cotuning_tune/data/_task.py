"""A task is a data set at a sampling rate, with one fixed split: what training may see of it.

First the rate is sampled per class (``ceil(rate * n)``), then 20 % of that, stratified, become the
validation split. Both follow the hash of (split seed, image name): no training seed touches them, and
the sample of a lower rate is part of the sample of a higher one. ``val_seed`` draws other validation splits from the
same sample: a published validation split is then put back among the images that one is drawn from.
Images of one group, or with the same bytes, are never drawn into two splits (``_splitting``); what becomes of those
that stand in two splits as given says ``TaskConfig.duplicates``.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.data._data_set import DataSet, Listing, TaskConfig, shared_by, treatment
from cotuning_tune.data._duplicates import NOUNS, Shared, consequence
from cotuning_tune.data._examples import Views
from cotuning_tune.data._prefetch import ahead
from cotuning_tune.data._splitting import as_many, composed, draw, grouped, hold_out, no_validation, sample
from cotuning_tune.hyper import to_flat
from cotuning_tune.runs.snapshot import SHORT, Example, Snapshot


class Split:
    """Some examples of a listing, by position. ``labels_N``: the classes of their targets; ``lengths``: how many each
    has, None: one each."""

    def __init__(self, listing: Listing, positions: Sequence[int]) -> None:
        self.examples = listing.examples
        self.positions = list(positions)
        self.names = [listing.names[p] for p in positions]
        self.strata = [int(listing.labels[p]) for p in positions]
        self.labels_N, self.lengths = listing.examples.targets(listing.labels, self.positions)

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def _ends(self) -> list[int]:
        return [0] if self.lengths is None else [0, *np.cumsum(self.lengths).tolist()]

    def stored(self, chosen: Sequence[int]) -> Tensor:
        """The stored examples at these places of the split, as ``Views`` takes them."""
        return self.examples.take([self.positions[c] for c in chosen])

    def labels(self, chosen: Sequence[int]) -> Tensor:
        """The classes of the targets of the examples at these places, int64."""
        if self.lengths is None:
            return self.labels_N[list(chosen)]
        return torch.cat([self.labels_N[self._ends[c] : self._ends[c + 1]] for c in chosen])

    def _copied(self) -> "Split":
        """Another one to change; what was worked out of its lengths stays behind."""
        found = copy.copy(self)
        vars(found).pop("_ends", None)
        return found

    def sizes(self) -> list[int] | None:
        """How long each example is; None where all are alike."""
        return self.examples.sizes(self.positions)

    def first(self, count: int) -> "Split":
        """The first ``count`` examples."""
        some = self._copied()
        some.positions, some.names, some.strata = self.positions[:count], self.names[:count], self.strata[:count]
        some.labels_N = self.labels(range(min(count, len(self))))
        some.lengths = None if self.lengths is None else self.lengths[:count]
        return some

    def plus(self, other: "Split") -> "Split":
        """Every example of both, these first."""
        both = self._copied()
        both.examples = self.examples.pooled(other.examples)
        both.positions = self.positions + [len(self.examples) + p for p in other.positions]
        both.names, both.strata = self.names + other.names, self.strata + other.strata
        both.labels_N = torch.cat([self.labels_N, other.labels_N])
        if self.lengths is not None and other.lengths is not None:
            both.lengths = np.concatenate([self.lengths, other.lengths])
        return both

    def fingerprint(self) -> str:
        """A key of examples, order and labels."""
        return content_key(self.examples.fingerprint(), self.positions, self.labels_N.tolist())


class Task:
    """Training and validation split of a data set at a rate; the test split only through ``open_test``.

    ``fit``: what is trained on, the training split or both (``TaskConfig.train_on``).
    """

    def __init__(self, name: str, data: DataSet, rate: float, config: TaskConfig) -> None:
        if not 0 < rate <= 1:
            raise UserError(f"rate {rate:g} must be above 0 and at most 1")
        self.name, self.rate, self.config, self._data = name, rate, config, data
        self.views: Views = data.views(config)
        self.class_names = data.class_names
        listing, val = data.train(), data.val()
        self._listings = (listing, val)
        self.duplicates = treatment(config, data)
        dropped = {split: self._dropped(split) for split in ("train", "val")}
        self._check_classes(dropped["train"])
        self.train, self.val = _splits(listing, val, rate, config, dropped)
        if not len(self.train):
            raise UserError(f"{name}: there is no training {data.noun[:-1]}")
        if not len(self.val):
            raise no_validation(name, rate, self.train.strata, published=val is not None, dropped=bool(dropped["val"]))
        self.fit = self.train if config.train_on == "train" else self.train.plus(self.val)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def source_rows(self) -> tuple[int, ...] | None:
        """As ``DataSet.source_rows``."""
        return self._data.source_rows

    @property
    def noun(self) -> str:
        """What its examples are, for people."""
        return self._data.noun

    def not_taken(self) -> list[str]:
        """What lies among the data set's images and is none of them: a line for each reason."""
        return [f"{self.name}: {line}" for line in self._data.not_taken()]

    def grouping(self) -> list[str]:
        """What the images are grouped by, in a line; none where they are not."""
        column, groups = self._data.grouping(), self._listings[0].groups
        if not column or not groups:
            return []
        return [f"{self.name}: {grouping_line(column, groups)}"]

    @cached_property
    def shared(self) -> list[Shared]:
        """The images with the same bytes in two splits as given. Reads the digests of the test split."""
        return shared_by(self._data)

    def _dropped(self, split: str) -> set[int]:
        """The positions of a listing that are left out because of what stands in another one."""
        if self.duplicates != "drop":
            return set()
        return {position for found in self.shared if found.split == split for position in found.positions}

    def _check_classes(self, dropped: set[int]) -> None:
        """UserError where a class has no other training images than those that are left out."""
        labels = self._listings[0].labels if dropped else ()
        left = {int(label) for position, label in enumerate(labels) if position not in dropped}
        if lost := sorted({int(label) for label in labels} - left):
            raise UserError(
                f"{self.name}: every training image of class '{self._data.strata[lost[0]]}' stands in another"
                ' split too: task.duplicates = "drop" leaves none of it',
                "task.duplicates",
            )

    def check_duplicates(self) -> None:
        """UserError where images stand in two splits, with number and example, if they are to be refused."""
        if self.shared and self.duplicates == "refuse":
            said = "; ".join(found.line for found in self.shared)
            where = " and ".join(dict.fromkeys(NOUNS[found.split] for found in self.shared))
            cure = f'set task.duplicates = "drop" to leave them out of {where}, or "keep"'
            raise UserError(f"{self.name}: {said}; {cure}", "task.duplicates")

    def duplicate_lines(self) -> list[str]:
        """A line for each two splits that have images in common: how many, and what becomes of them."""
        return [f"{self.name}: {consequence(found, self.duplicates)}" for found in self.shared]

    def check(self) -> None:
        """Whether every image of the set can be read, test images too, which nobody gets to see.

        Raises UserError with its name.
        """
        self._data.check()

    def snapshot(self, *, test: bool = False) -> Snapshot:
        """What the data set is: classes, and every image of its training and validation split as published.

        ``test``: of its test split too; no pixel is handed on.
        """
        names, strata = tuple(map(str, self.class_names)), tuple(map(str, self._data.strata))
        tested = {"test": _shown(self._data.test(), strata)} if test else {}
        return Snapshot(names, self._data.decoder, self._seen | tested)

    @cached_property
    def _seen(self) -> dict[str, list[Example]]:
        strata = tuple(map(str, self._data.strata))
        return {split: _shown(one, strata) for split, one in zip(("train", "val"), self._listings, strict=True)}

    def open_test(self) -> Split:
        """The test split. Retraining alone may call this: a selection that saw it proves nothing."""
        listing = self._data.test()
        return Split(listing, range(len(listing.names)))

    def stored_batches(self, split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of a split in order: stored examples, and the classes of their targets; the next is fetched ahead."""
        places = [range(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]
        for chosen, stored in ahead(split.stored, places):
            yield stored, split.labels(chosen)

    def plain_batches(self, split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of a split in order as the network takes it in evaluation, and the classes of the targets; on the CPU."""
        for stored, labels in self.stored_batches(split, batch_size):
            yield self.views.plain(stored, torch.device("cpu"))[0], labels

    def fingerprint(self) -> str:
        """A key of all that training sees: images, labels, split, sizes."""
        sizes = {key: value for key, value in to_flat(self.config).items() if key not in ("decode", "duplicates")}
        return content_key(self.train.fingerprint(), self.val.fingerprint(), sizes)


def _shown(listing: Listing | None, classes: Sequence[str]) -> list[Example]:
    """Name, class and content of each image of a listing."""
    if listing is None:
        return []
    names = [composed(name) for name in listing.names]
    labels, digests = [classes[label] for label in listing.labels], [d[:SHORT] for d in listing.examples.digests()]
    return list(zip(names, labels, digests, strict=True))


def grouping_line(column: str, groups: Sequence[str]) -> str:
    """What a grouping means, with the number of the groups."""
    return f"{len({group for group in groups if group})} groups ({column}): no drawn split tears one apart"


def _pooled(one: Listing, other: Listing) -> Listing:
    examples = one.examples.pooled(other.examples)
    groups = None
    if one.groups or other.groups:
        groups = [*(one.groups or [""] * len(one.names)), *(other.groups or [""] * len(other.names))]
    return Listing([*one.names, *other.names], [*one.labels, *other.labels], examples, groups)


def groups_of(listing: Listing) -> list[int] | None:
    """The groups of a listing that no split may tear apart: its own, and images with the same bytes."""
    return grouped(listing.names, listing.groups, listing.examples.digests())


def _splits(
    listing: Listing, val: Listing | None, rate: float, config: TaskConfig, dropped: Mapping[str, set[int]]
) -> tuple[Split, Split]:
    """Training and validation split; with a ``val_seed`` a published one is drawn anew, as many of each class.

    ``dropped``: positions of either listing that are not used.
    """
    seed = config.split_seed
    again: int | str = f"{seed}/{config.val_seed}" if config.val_seed else seed
    used = [p for p in range(len(listing.names)) if p not in dropped["train"]]
    if val is None:
        kept = sample(listing, rate, seed, used)
        train, held = hold_out(listing, kept, config.val_fraction, again, groups_of(listing))
        return Split(listing, train), Split(listing, held)
    used_val = [p for p in range(len(val.names)) if p not in dropped["val"]]
    if not config.val_seed:
        return Split(listing, sample(listing, rate, seed, used)), Split(val, used_val)
    pooled, counts = _pooled(listing, val), Counter(int(val.labels[p]) for p in used_val)
    every = used + [len(listing.names) + p for p in used_val]
    held = draw(pooled, every, as_many(pooled, every, counts), again, groups_of(pooled))
    left = sorted(set(every) - set(held))
    return Split(pooled, sample(pooled, rate, seed, left)), Split(pooled, held)
