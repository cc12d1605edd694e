"""Routers of the HTTP API, one module for one kind of thing; ``service.app`` names them."""
