"""Planted schemes: one function each, found by the list of its family module.

A scheme is ``plant(desk, truth, culprits, cases)``: it writes ``cases`` cases committed by the
culprits (party numbers of the kind the scheme needs) and records each in the truth.
"""
