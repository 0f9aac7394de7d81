"""`vq-infer bench`: every way to run the model, beside each other on the machine at hand."""
