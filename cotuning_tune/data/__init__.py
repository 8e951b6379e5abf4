"""Data sets: one file each, found by its name. ``open_task`` gives what training sees of one."""

from cotuning_tune.data._batch import Batch
from cotuning_tune.data._catalogue import about, broken, data_set, names, open_task, plugin
from cotuning_tune.data._data_set import DataSet, Listing, TaskConfig
from cotuning_tune.data._examples import Examples, Views, Words
from cotuning_tune.data._prefetch import ahead
from cotuning_tune.data._task import Split, Task
from cotuning_tune.data.images._decoding import ImageFiles
from cotuning_tune.data.images._files import SPLITS, FileDataSet, Files
from cotuning_tune.data.images._images import ArrayImages, DecodedImages, EachTimeImages
from cotuning_tune.data.images._mixing import Augmentation
from cotuning_tune.data.images._transforms import Crops

__all__ = [
    "SPLITS",
    "ArrayImages",
    "Augmentation",
    "Batch",
    "Crops",
    "DataSet",
    "DecodedImages",
    "EachTimeImages",
    "Examples",
    "FileDataSet",
    "Files",
    "ImageFiles",
    "Listing",
    "Split",
    "Task",
    "TaskConfig",
    "Views",
    "Words",
    "about",
    "ahead",
    "broken",
    "data_set",
    "names",
    "open_task",
    "plugin",
]
