"""Measurements beside peers, in one run. Not here: tests, and anything the product imports."""
