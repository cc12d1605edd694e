"""How events get to an engine and findings away from it, wherever the events come from."""
