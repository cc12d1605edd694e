"""The HTTP service: who may ask what, and answers from the engine that runs in its own thread."""
