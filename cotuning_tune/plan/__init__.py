"""The plan: what an experiment will cost, before anything runs. Needs neither Ray nor the data."""

from cotuning_tune.plan.cost import Plan
from cotuning_tune.plan.make import plan_of

__all__ = ["Plan", "plan_of"]
