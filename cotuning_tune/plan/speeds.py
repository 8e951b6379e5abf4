"""How fast a method trains: measured by a probe, or taken from a throughput that the user gives."""

from collections.abc import Iterable
from dataclasses import dataclass

from cotuning_tune.base.errors import UserError

# Medians of benchmarks/results/steps-cpu.json: EfficientNet-Lite0, 64 px, batch 24, one core.
RATIOS = {"fine_tune": 1.0, "l2_sp": 1.02, "delta": 1.22, "bss": 1.01, "co_tuning": 1.04}
RATIOS_FROM = "measured with efficientnet_lite0 at 64 px on a CPU core"
FORWARD_SHARE = 1 / 3


@dataclass(frozen=True)
class Speed:
    """Seconds of one method, and where they come from.

    ``step_s``: a training step of ``batch`` images, median of ``steps`` timed ones. ``image_s``: one image
    of an evaluation. ``start_s``: building a trial. ``keep_s``: writing its state.
    ``setup_s``: the method's own pass over ``setup_images``, once a task and rate (None: not measured).
    ``memory_bytes``: of the process, or of the GPU where it ran there (0: not measured).
    """

    step_s: float
    batch: float
    image_s: float
    steps: int = 0
    start_s: float = 0.0
    keep_s: float = 0.0
    setup_s: float | None = None
    setup_images: int = 0
    memory_bytes: int = 0

    @property
    def steps_per_second(self) -> float:
        return 1 / self.step_s


@dataclass(frozen=True)
class Footprint:
    """What a training leaves on disk, in bytes: its state while it runs, its model alone.

    Measured on so many ``examples``; ``each``: what both grow by with every further one (a method that keeps them).
    """

    state: int
    model: int
    each: float = 0.0
    examples: int = 0

    def at(self, examples: int) -> "Footprint":
        """The same for a training split of so many examples."""
        more = round(self.each * (examples - self.examples))
        return Footprint(self.state + more, self.model + more, self.each, examples)


def assumed_speeds(methods: Iterable[str], images_per_second: float, batch: float) -> dict[str, Speed]:
    """Speeds from the throughput of plain fine-tuning (training images a second) and known ratios.

    Raises UserError for a throughput that is not above 0.
    """
    if not 0 < images_per_second < float("inf"):
        raise UserError(f"--images-per-second {images_per_second:g}: a number above 0 is needed")
    image_s = 1 / images_per_second
    return {
        name: Speed(step_s=batch * image_s * RATIOS.get(name, 1.0), batch=batch, image_s=image_s * FORWARD_SHARE)
        for name in methods
    }


def ratio_notes(methods: Iterable[str]) -> list[str]:
    """What the assumed speeds rest on."""
    listed = list(methods)
    known = ", ".join(f"{name} {RATIOS[name]:.2f}" for name in listed if name in RATIOS)
    notes = [f"step times over plain fine-tuning, {RATIOS_FROM}: {known}"] if known else []
    if unknown := [name for name in listed if name not in RATIOS]:
        notes.append(f"not measured, taken for as fast as plain fine-tuning: {', '.join(unknown)}")
    return [*notes, "an image of an evaluation is taken for a third of one in training; set-up and start for nothing"]
