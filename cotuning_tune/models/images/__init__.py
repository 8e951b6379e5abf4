"""Backbones for images: one file a family, found by its name."""
