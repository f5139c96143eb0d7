"""Model files to graphs: nothing in a file is executed or imported, and everything is bounded.

Importing this package imports no HDF5 reader; opening a file does.
"""

from convcore.loader.check import check_graph
from convcore.loader.graph import OPERATIONS, Graph, Layer, Node, Source
from convcore.loader.infer import specialise
from convcore.loader.keras_file import load_graph

__all__ = [
    "OPERATIONS",
    "Graph",
    "Layer",
    "Node",
    "Source",
    "check_graph",
    "load_graph",
    "specialise",
]
