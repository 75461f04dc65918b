"""Makes the example pictures: draws the labels, renders the scenes, simulates the generated pictures."""
