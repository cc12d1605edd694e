"""Forward and backward traces of an engine's state, for recalls and for case work."""

from trace_engine.tracing.errors import TraceError
from trace_engine.tracing.tracer import Tracer

__all__ = ["TraceError", "Tracer"]
