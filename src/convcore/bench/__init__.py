"""Measuring: the machine's context, and fair timing of several candidates in one process."""

from convcore.bench.machine import machine
from convcore.bench.timing import interleaved, median_ratio

__all__ = ["interleaved", "machine", "median_ratio"]
