"""How often a search asks an object store: each request takes its time, and is paid for."""

from collections import Counter
from pathlib import Path

import pytest
from aiobotocore.client import AioBaseClient

from cotuning_tune.base.files import place
from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.experiment import parse
from cotuning_tune.runs import budget
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search.driver import create_run, open_studies
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.searcher import StudySearcher
from cotuning_tune.search.storage import set_storage
from tests.servers import bucket, s3_server

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 3
selection = "max"
[data.synthetic]
images = 40
"""


def test_requests_of_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two: whose run it is, and the trial's configuration. A budget that has grown is seen before the search ends."""
    asked, send = Counter[str](), AioBaseClient._make_api_call

    async def count(self: AioBaseClient, operation: str, words: object) -> object:
        asked[operation] += 1
        return await send(self, operation, words)

    experiment = parse(TEXT, "requests")
    with s3_server() as port, bucket(port, "files"):
        run = create_run(experiment, place("s3://files/runs"), ["test"])
        set_storage(run, f"sqlite:///{tmp_path}/studies.db")
        studies = open_studies(run, experiment, print)
        driver = Driver(run.raise_incarnation(), Concurrency(1, 0.0, 9), Stream(run), studies.check_owner)
        searcher = StudySearcher(studies, Recorder(run), run, driver)
        driver.allowed()  # as a stage does when it begins: the share is looked at every few seconds
        monkeypatch.setattr(AioBaseClient, "_make_api_call", count)
        assert searcher.suggest("0")
        assert searcher.suggest("1")
        assert asked == {"ListObjectsV2": 2, "PutObject": 2}
        assert searcher.suggest("2")
        assert searcher.suggest("3") is None
        budget.extend(run, 3, 1)
        assert searcher.suggest("4")
