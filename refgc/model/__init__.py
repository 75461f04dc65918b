"""The paper's model: FreqMoLE in a frozen FLUX.1-Kontext. Needs the extra `diffusion`; the rest of refgc does not."""
