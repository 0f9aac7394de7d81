"""Run a video diffusion model over prompts and gather the statistics of what its linears read."""
