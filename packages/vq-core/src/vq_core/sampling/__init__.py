"""Running a diffusers pipeline: prompts and images in, the schedule, latents and videos out.

Stages import this room, and `artifacts`, for what a schedule and a video are.
"""
