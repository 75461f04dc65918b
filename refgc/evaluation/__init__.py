"""Evaluation: methods compared on the same entries, as tables and figures."""
