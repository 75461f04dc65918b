"""Blind super-resolution of what lies around the object, by small networks on the processor."""
