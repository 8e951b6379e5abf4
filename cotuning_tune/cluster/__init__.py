"""A Ray cluster to work on: connecting, checking its nodes, watching that it lives, its metrics, signals."""
