"""The supply graph: cycles, fans, scatter and gather, components and communities."""

from trace_engine.graph.components import strong_components
from trace_engine.graph.cycles import Cycles, temporal_cycles
from trace_engine.graph.fans import Fans, fans
from trace_engine.graph.scatter_gather import Patterns, scatter_gather

__all__ = [
    "Cycles",
    "Fans",
    "Patterns",
    "fans",
    "scatter_gather",
    "strong_components",
    "temporal_cycles",
]
