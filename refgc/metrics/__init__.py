"""Metrics of results: fidelity to the truth and likeness to the reference, each with its protocol."""
