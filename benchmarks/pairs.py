"""Two things run in turn, A B A B, in one process: times, the ratio of each pair, and its spread."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Comparison:
    """Medians in seconds of ``ours`` and ``theirs``; ratios ours/theirs, one a pair."""

    name: str
    ours_s: float
    theirs_s: float
    ratio: float
    lowest: float
    highest: float
    pairs: int
    target: str
    note: str = ""

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.name}: {self.ours_s:.4g} s against {self.theirs_s:.4g} s, ratio {self.ratio:.3f}"
            f" ({self.lowest:.3f} to {self.highest:.3f}, {self.pairs} pairs; target {self.target})"
            + (f" · {self.note}" if self.note else "")
        )


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, waiting for a GPU where there is one."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    target: str,
    pairs: int = 7,
    note: str = "",
) -> Comparison:
    """Run both once to warm up, then in turn."""
    ours(), theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    ratios = [a / b for a, b in times]
    return Comparison(
        name,
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        pairs,
        target,
        note,
    )


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "gpu": gpu,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def keep(file: str, comparisons: list[Comparison]) -> None:
    """Print the lines and write them under ``benchmarks/results``, with the GPU's name where there is one."""
    for comparison in comparisons:
        print(comparison.line(), flush=True)
    name = machine()["gpu"]
    suffix = "-" + str(name).lower().replace(" ", "-") if name else "-cpu"
    RESULTS.mkdir(exist_ok=True)
    value = {"machine": machine(), "comparisons": [asdict(c) for c in comparisons]}
    (RESULTS / f"{file}{suffix}.json").write_text(json.dumps(value, indent=2) + "\n")
