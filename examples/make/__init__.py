"""Generates the example pictures: draws labels, renders scenes, simulates the generated pictures."""
