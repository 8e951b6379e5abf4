"""Text data sets: one file each, found by its name."""
