"""The dataset: from videos or photos of one object to (HRRI, HRGT, LRGI) triplets (paper, Section 4 and Figure 2)."""
