"""The search: one Ray Tune run over all cells, one Optuna study a cell; the studies are the only truth."""
