"""Backbones that read texts: one file a family, found by its name."""
