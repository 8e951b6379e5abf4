"""The search: one Ray Tune run over all studies, one Optuna study per study; the studies are the only truth."""
