"""The review of a dataset: a page on which people accept or reject pairs and triplets, and mend masks."""
