"""Marking an object in a picture."""
