"""Image data sets: one file each, found by its name."""

from cotuning_tune.data.images._source import decoded_batches, source_files

__all__ = ["decoded_batches", "source_files"]
