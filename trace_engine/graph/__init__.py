"""The supply graph: cycles, fans, scatter and gather, components and communities."""

from trace_engine.graph.communities import communities
from trace_engine.graph.components import connected, connected_by_keys, strong_components
from trace_engine.graph.cycles import Cycles, temporal_cycles
from trace_engine.graph.fans import Fans, fans
from trace_engine.graph.measures import jensen_shannon
from trace_engine.graph.scatter_gather import Patterns, scatter_gather

__all__ = [
    "Cycles",
    "Fans",
    "Patterns",
    "communities",
    "connected",
    "connected_by_keys",
    "fans",
    "jensen_shannon",
    "scatter_gather",
    "strong_components",
    "temporal_cycles",
]
