"""Measuring: the machine and its roofline, fair timing, named workloads, and other people's libraries."""

from convcore.bench.cases import CASES, GROUPS, MEMORY_BOUND, Case, case, sonar_mlp, vgg16
from convcore.bench.comparison import Comparison, Measured, compare
from convcore.bench.machine import machine
from convcore.bench.peers import OWN, PEERS, installed
from convcore.bench.profiles import profile_case, profile_graph
from convcore.bench.timing import interleaved, median_ratio
from convcore.run.roofline import Peaks
from convcore.run.roofline import measure as roofline

__all__ = [
    "CASES",
    "GROUPS",
    "MEMORY_BOUND",
    "OWN",
    "PEERS",
    "Case",
    "Comparison",
    "Measured",
    "Peaks",
    "case",
    "compare",
    "installed",
    "interleaved",
    "machine",
    "median_ratio",
    "profile_case",
    "profile_graph",
    "roofline",
    "sonar_mlp",
    "vgg16",
]
