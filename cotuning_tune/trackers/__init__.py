"""Trackers: tools that show runs beside TensorBoard. One file each, found by its name.

The study and the files of the run stay the only truth: a tracker gets a copy of what they hold.
"""

from cotuning_tune.trackers._base import Ending, TrackedRun, Tracker, Training
from cotuning_tune.trackers._find import check_installed, check_names, tracker
from cotuning_tune.trackers._tracking import Tracking

__all__ = ["Ending", "TrackedRun", "Tracker", "Tracking", "Training", "check_installed", "check_names", "tracker"]
