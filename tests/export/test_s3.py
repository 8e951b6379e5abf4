"""A run of an object store is exported from there and to there."""

from collections.abc import Callable
from pathlib import Path

from cotuning_tune.base.files import place, write_bytes
from cotuning_tune.runs.folder import RunDir
from tests.export.conftest import CELL
from tests.servers import bucket, s3_server


def test_a_run_of_objects(
    small_run: RunDir, clothes: Path, call: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    """The default folder is one of objects; its model is the run's, and predicts from there; a table goes there too."""
    with s3_server() as port, bucket(port, "exports"):
        run = place("s3://exports/small")
        for path in small_run.path.rglob("*"):
            if path.is_file():
                write_bytes(run.joinpath(*path.relative_to(small_run.path).parts), path.read_bytes())
        code, out, err = call("export", run, "--study", CELL, "--format", "safetensors")
        assert (code, err) == (0, [])
        folder = f"s3://exports/small/export/{CELL}-seed0-safetensors"
        assert f"written to {folder};" in out[1]
        assert call("export", run, "--study", CELL, "--format", "safetensors")[0] == 0
        assert call("export", run, "--study", CELL, "--format", "torchscript", "--out", folder)[0] == 2
        table = "s3://exports/table.csv"
        assert call("predict", folder, clothes / "test", "--out", table)[0] == 0
        assert len(place(table).read_text().splitlines()) == 28
