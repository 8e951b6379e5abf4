"""Distributed hyper-parameter search for transfer learning: co-tuning and its baselines on equal terms."""

__version__ = "0.1.0"
