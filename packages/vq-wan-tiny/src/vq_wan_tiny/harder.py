"""The harder twin of wan-tiny: the hard twin, and massive activations behind GELU like those of trained models.

The hard twin's outliers lie where an exact fold can take them away. In the second linear of the feed-forward they do
not (`vq_wan_tiny.massive_units`), so that smoothing alone no longer repairs INT8.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import write_bytes
from vq_core.topology import Topology
from vq_wan_tiny import hard
from vq_wan_tiny.massive_units import FILE, add_massive_units, wan_tiny_units

VERSION = f"{hard.VERSION}.1 {hashlib.sha256(FILE.read_bytes()).hexdigest()}"
"""Of the construction, see `vq_wan_tiny.hard.VERSION`, and of the fitted units."""


def build_harder(source_folder: Path, output_folder: Path, seed: int) -> None:
    """Write the harder twin of wan-tiny, in `source_folder`, to `output_folder`; everything else of it is copied.

    Raises:
        VqError: `source_folder` is not a whole model.
        OSError: `output_folder` cannot be written.
    """
    units = wan_tiny_units()

    def widened(tensors: dict[str, Tensor], topology: Topology) -> dict[str, Tensor]:
        return add_massive_units(tensors, units, seed)

    with TemporaryDirectory() as folder:
        wide = Path(folder)
        hard.write_twin(source_folder, wide, widened)
        path = wide / "transformer" / "config.json"
        config = read_json(path)
        pairs = len(next(iter(units.values())))
        write_bytes(path, f"{json.dumps(config | {'ffn_dim': config['ffn_dim'] + 2 * pairs}, indent=2)}\n".encode())
        hard.build_hard(wide, output_folder, seed)
