"""Who works on a search."""

from dataclasses import dataclass

from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.run.stream import Stream


@dataclass(frozen=True)
class Driver:
    """Its number (of the search's folder), what trainings may take, and the stream that it tells what happens."""

    number: int
    concurrency: Concurrency
    stream: Stream
