"""What the vq stages share: the artifact contract, number formats and model topology."""

from importlib.metadata import version

__version__ = version("vq-core")
