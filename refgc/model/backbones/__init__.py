"""The diffusion models that the paper's method stands on, behind one interface; `catalogue` imports no torch."""
