"""What ``run`` does, without a terminal: a ``Request`` is carried out from its check to the report.

``carry_out(request, observers)`` tells observers what happens, as the events of ``cotuning_tune.runs.events``.
"""

from cotuning_tune.pipeline.growth import Growth, extend
from cotuning_tune.pipeline.request import Cluster, NewRun, Request
from cotuning_tune.pipeline.road import Outcome, carry_out

__all__ = ["Cluster", "Growth", "NewRun", "Outcome", "Request", "carry_out", "extend"]
