"""The DipRefGC preview tab."""
