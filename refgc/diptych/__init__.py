"""DipRefGC: a generated picture of the reference's object in a scene whose truth is known, and its simulation."""
