"""Pictures: read and checked at one place, and the array operations that everything above shares."""
