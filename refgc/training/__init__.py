"""Training of the model: cached latents, one loop on one or many processes, checkpoints that resume exactly."""
