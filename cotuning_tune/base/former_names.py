"""Names that have changed: whoever uses a former one is given the present one. Of files that an earlier version wrote
those in ``RECORDED`` are read as the present ones; nothing else is read under a former name."""

KEYS = {"kind": "format", "part": "split", "smallest_crop": "min_scale", "stopper": "pruner"}  # of experiment files
OPTIONS = {"--cell": "--study", "--slots": "--concurrent-trials", "--studies": "--optuna-storage"}
VARIABLES = {"COTUNING_TUNE_STUDIES": "COTUNING_TUNE_OPTUNA_STORAGE"}
FILES = ("cells", "studies.journal", "studies.url")  # of a run's folder
RECORDED = {
    "val_accuracy": "val_score",
    "val_accuracies": "val_scores",
    "test_accuracy": "test_score",
    "accuracy": "score",
    "val_images": "val_count",
    "test_images": "test_count",
    "images": "counts",
}  # in studies, selections, results, rows of metrics and lines of the ledger
