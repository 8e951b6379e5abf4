"""Data sets: one file each, found by its name. ``open_task`` gives what training sees of one."""

from cotuning_tune.data._files import PARTS, FileDataSet, Files
from cotuning_tune.data._images import ArrayImages, DecodedImages, Images
from cotuning_tune.data._source import decoded_batches, source_files
from cotuning_tune.data._task import DataSet, Listing, Split, Task, TaskConfig, data_set, names, open_task

__all__ = [
    "PARTS",
    "ArrayImages",
    "DataSet",
    "DecodedImages",
    "FileDataSet",
    "Files",
    "Images",
    "Listing",
    "Split",
    "Task",
    "TaskConfig",
    "data_set",
    "decoded_batches",
    "names",
    "open_task",
    "source_files",
]
