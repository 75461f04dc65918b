"""Results on disk: where they may go, and writing all files of a result or none."""
