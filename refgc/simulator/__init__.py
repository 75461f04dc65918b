"""The simulator: draws the four artifacts of reference-guided generators onto a true picture."""
