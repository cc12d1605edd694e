"""Planted schemes: one function each, found by the list of its family module.

A scheme is ``plant(scene, who, cases)``: it writes ``cases`` cases committed by ``who`` (a seller's
party number, or the number of a ring) and records each in the truth. Each docstring says the shape
and the detector that must find it where the names differ.
"""
