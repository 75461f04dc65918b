"""The artifact simulator: draws the four artifacts of reference-guided generation onto a true picture."""
