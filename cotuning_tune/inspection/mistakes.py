"""Where a trained model errs, as pictures: which class it takes for which, and the mistakes it is surest about.

Drawn from the validation split alone: pictures of the test split would tempt to tune on it.
Shapes: N targets of the split (images, or words), T target classes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cotuning_tune.data import Split
from cotuning_tune.inspection.contact_sheet import FAINT, GAP, INK, MARGIN, PAPER, plain_letters, write_text

NUMBERS, NAMES = 20, 60  # up to so many classes the matrix shows numbers, or names
PAIRS, MISTAKES, COLUMNS = 10, 24, 6
TILE, LINE = 128, 18
WIDTH, HEIGHT, DPI = 9.0, 10.8, 100  # inches


@dataclass(frozen=True)
class Judged:
    """A split of a task and what a model says of it: predicted_N int64, probability_N of that class."""

    title: str
    split: Split
    class_names: Sequence[str]
    predicted_N: Tensor
    probability_N: Tensor
    noun: str = "images"

    @property
    def targets(self) -> str:
        """What is classified: the examples, or words of them."""
        return self.noun if self.split.lengths is None or max(self.split.lengths) == 1 else "words"

    def place(self, target: int) -> str:
        """Where a text's target stands."""
        assert self.split.lengths is not None
        ends_E = np.cumsum(self.split.lengths)
        example = int(np.searchsorted(ends_E, target, side="right"))
        number = target - (int(ends_E[example - 1]) if example else 0) + 1
        return f"{self.split.names[example]}, word {number}" if self.targets == "words" else self.split.names[example]

    def confusion(self) -> Tensor:
        """Counts [T, T] int64: row the true class, column the predicted one."""
        classes = len(self.class_names)
        flat_N = self.split.labels_N * classes + self.predicted_N
        return torch.bincount(flat_N, minlength=classes * classes).reshape(classes, classes)

    def worst_pairs(self) -> list[tuple[int, int, int]]:
        """The most confused pairs (how many, true class, predicted class), at most ten; equals by class."""
        wrong_TT = self.confusion().fill_diagonal_(0)
        found = [(int(wrong_TT[true, guess]), int(true), int(guess)) for true, guess in wrong_TT.nonzero()]
        return sorted(found, key=lambda pair: (-pair[0], *pair[1:]))[:PAIRS]

    def mistakes(self) -> list[int]:
        """Positions in the split of the targets classified wrong, the surest mistake first."""
        wrong = (self.predicted_N != self.split.labels_N).nonzero()[:, 0].tolist()
        return sorted(wrong, key=lambda place: (-float(self.probability_N[place]), place))

    def name(self, label: int) -> str:
        """A class's name in letters that every font has."""
        return plain_letters(str(self.class_names[label]))


def _shortened(text: str, length: int = 22) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def draw_confusion(judged: Judged) -> bytes:
    """The confusion matrix as PNG: shares of each true class as colours, and the ten most confused pairs in words.

    Up to 20 classes also the counts, up to 60 the classes' names.
    """
    from matplotlib.figure import Figure

    counts_TT = judged.confusion()
    shares_TT = 100 * counts_TT / counts_TT.sum(1, keepdim=True).clamp(min=1)
    classes = len(judged.class_names)
    canvas = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    bottom, side = 0.37, 0.66
    axes = canvas.add_axes((0.22, bottom, side, side * WIDTH / HEIGHT))
    shown = axes.imshow(shares_TT.numpy(), cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    canvas.colorbar(
        shown, cax=canvas.add_axes((0.90, bottom, 0.02, side * WIDTH / HEIGHT)), label="% of the true class"
    )
    axes.set(xlabel="predicted class", ylabel="true class")
    if classes <= NAMES:
        names = [_shortened(judged.name(label)) for label in range(classes)]
        size = 9 if classes <= NUMBERS else 6
        axes.set_xticks(range(classes), names, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(classes), names, fontsize=size, parse_math=False)
    for true, guess in counts_TT.nonzero().tolist() if classes <= NUMBERS else []:
        colour = "white" if shares_TT[true, guess] > 60 else "black"
        axes.text(guess, true, str(int(counts_TT[true, guess])), ha="center", va="center", fontsize=9, color=colour)
    heading = f"{judged.title}\nvalidation split, {len(judged.predicted_N)} {judged.targets}"
    canvas.text(0.03, 0.985, heading, fontsize=14, va="top", parse_math=False)
    canvas.text(0.03, 0.19, _pairs_text(judged), fontsize=10, va="top", family="monospace", parse_math=False)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _pairs_text(judged: Judged) -> str:
    pairs = judged.worst_pairs()
    lines = [
        f"{count:5d}  {_shortened(judged.name(true), 34):34}  taken for  {_shortened(judged.name(guess), 34)}"
        for count, true, guess in pairs
    ]
    return "\n".join(
        [f"Most confused ({judged.targets})" if pairs else f"None of the {judged.targets} is classified wrong.", *lines]
    )


def draw_mistakes(judged: Judged) -> bytes:
    """Up to 24 targets that are classified wrong as PNG, the surest mistakes first: images as the network gets them,
    words by file and line."""
    if judged.split.lengths is not None:
        return _draw_lines(judged)
    places = judged.mistakes()
    shown = places[:MISTAKES]
    rows = max(1, -(-len(shown) // COLUMNS))
    head, block = MARGIN + 3 * LINE, TILE + 2 * LINE + 2 * GAP
    picture = Image.new("RGB", (2 * MARGIN + COLUMNS * (TILE + MARGIN) - MARGIN, head + rows * block + GAP), PAPER)
    pen, room = ImageDraw.Draw(picture), picture.width - 2 * MARGIN
    write_text(pen, (MARGIN, GAP), judged.title, room, 16, INK)
    note = f"{len(places)} of {len(judged.split)} validation images are classified wrong; the surest mistakes first"
    write_text(pen, (MARGIN, GAP + LINE + GAP), note, room, 13, FAINT)
    for number, place in enumerate(shown):
        left = MARGIN + number % COLUMNS * (TILE + MARGIN)
        top = head + number // COLUMNS * block
        picture.paste(_tile(judged.split.stored([place])[0]), (left, top))
        true, guess = int(judged.split.labels_N[place]), int(judged.predicted_N[place])
        share = f"{100 * float(judged.probability_N[place]):.0f} %"
        write_text(pen, (left, top + TILE), f"is {judged.name(true)}", TILE, 12, INK)
        write_text(pen, (left, top + TILE + LINE - 3), f"{share} {judged.name(guess)}", TILE, 12, FAINT)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _draw_lines(judged: Judged) -> bytes:
    places = judged.mistakes()
    width, head = 2 * MARGIN + COLUMNS * (TILE + MARGIN) - MARGIN, MARGIN + 3 * LINE
    picture = Image.new("RGB", (width, head + max(1, len(places[:MISTAKES])) * LINE + MARGIN), PAPER)
    pen, room = ImageDraw.Draw(picture), width - 2 * MARGIN
    write_text(pen, (MARGIN, GAP), judged.title, room, 16, INK)
    count = f"{len(places)} of {len(judged.predicted_N)} validation {judged.targets}"
    note = f"{count} are classified wrong; the surest mistakes first"
    write_text(pen, (MARGIN, GAP + LINE + GAP), note, room, 13, FAINT)
    for number, place in enumerate(places[:MISTAKES]):
        true, guess = int(judged.split.labels_N[place]), int(judged.predicted_N[place])
        share = f"{100 * float(judged.probability_N[place]):.0f} %"
        line = f"{plain_letters(judged.place(place))}: is {judged.name(true)}, taken for {judged.name(guess)} ({share})"
        write_text(pen, (MARGIN, head + number * LINE), line, room, 12, INK)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _tile(image_3SS: Tensor) -> Image.Image:
    stored = Image.fromarray(image_3SS.permute(1, 2, 0).contiguous().numpy())
    kind = Image.Resampling.NEAREST if stored.width < TILE else Image.Resampling.BICUBIC
    return stored.resize((TILE, TILE), kind)
