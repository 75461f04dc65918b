"""Results on disk: where they may go, and writing them whole or not at all."""
