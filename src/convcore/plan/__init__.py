"""From a graph to a plan: what will be computed, by which kernel, in which order, in which memory."""

from convcore.plan.build import build
from convcore.plan.data import Device, Plan, PlanStep

__all__ = ["Device", "Plan", "PlanStep", "build"]
