"""A run on disk: its folder, ledger, lock, budget, summary. Imports neither torch nor ray."""
