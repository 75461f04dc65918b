"""What every diffusion model of the project shares: placement, memory, quantisation, speed, prompts, progress."""
