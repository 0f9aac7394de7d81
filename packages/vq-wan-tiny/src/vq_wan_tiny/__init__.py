"""A trained Wan image-to-video model of a few megabytes, its hard twin, and the world it was trained on."""
