"""Figures: grids of results, the paper's Figures 5 and 9 for any backbone and triplet, gates, and a page with sliders."""
