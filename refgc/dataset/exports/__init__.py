"""The dataset in the forms that other programs read. Manifest and files stay the truth."""
