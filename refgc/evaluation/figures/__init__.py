"""Figures: grids of results, the paper's Figures 5 and 9 for any backbone and triplet, gates, a page of sliders."""
