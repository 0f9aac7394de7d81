"""`vq-infer bench`: every way to run the model, compared on this machine."""
