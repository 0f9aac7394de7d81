"""How the latents of candidates drift from full precision over the steps."""
