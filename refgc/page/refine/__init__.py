"""The Refine tab."""
