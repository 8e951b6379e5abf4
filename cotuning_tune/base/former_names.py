"""Names that have changed: whoever uses a former one is given the present one. Nothing is read under a former name."""

KEYS = {"kind": "format", "part": "split", "smallest_crop": "min_scale", "stopper": "pruner"}  # of experiment files
OPTIONS = {"--cell": "--study", "--slots": "--concurrent-trials", "--studies": "--optuna-storage"}
VARIABLES = {"COTUNING_TUNE_STUDIES": "COTUNING_TUNE_OPTUNA_STORAGE"}
FILES = ("cells", "studies.journal", "studies.url")  # of a run's folder
