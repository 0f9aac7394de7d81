"""`quant-params`: codes, scale and decision of every quantized linear.

Files: `transformer/block_0.safetensors` …, with `LINEAR.codes` (int8 or float8_e4m3fn `[out, in]`), `LINEAR.scale`
(fp32 `[out, 1]`, bfloat16 values), and if the codes are of the rotated weight, `LINEAR.rotation` (int64 `[]`): how many
channels are rotated together. Codes of fewer bits than 8 are packed, int8 `[out, in·bits/8]`, and decode to INT8 with
`LINEAR.group_scale` (float8_e4m3fn `[out, in/16]`), see `vq_core.numerics.grouped`. `GROUP.mean` (fp32 `[in]`) is what
centering has subtracted from the smoothed input of a group, or behind GELU its linear subtracts
(`vq_core.numerics.centering`). Beside them, by their own
names and in fp32, tensors that take the place of the smoothed weights': biases of linears that were corrected or whose
input was centered, and what produces a centered input. Of the inputs that all blocks read, producer and mean lie in
`transformer/non_block.safetensors`. `block_0.json` … record how each linear was rounded, and its error. The manifest's
`measured` names the linears that stay in full precision all the same, by component: `{"kept": {"transformer": [LINEAR,
…]}}`.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from vq_core.artifacts.decisions import read_decisions
from vq_core.artifacts.kept_names import KEPT, kept_names
from vq_core.artifacts.models_in_place import models_told
from vq_core.artifacts.stored_scheme import stored_scheme
from vq_core.errors import VqError
from vq_core.numerics import grouped, rotation
from vq_core.numerics.centering import subtracts_itself
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import QuantScheme, schemes_named
from vq_core.remote.location import Location
from vq_core.store.reader import Artifact, open_artifact
from vq_core.topology import Group

KIND = "quant-params"
OWN = ("codes", "scale", "group_scale", "rotation", "mean")
"""The last part of the names that no smoothed weights have."""
FORMAT = 6


def stored(weight: Quantized) -> dict[str, Tensor]:
    """The tensors of a linear with codes and scales, by the last part of their name."""
    if weight.groups is None:
        return {"codes": weight.codes, "scale": weight.scale}
    packed = grouped.pack(weight)
    return {"codes": packed.codes, "scale": packed.scale, "group_scale": packed.group_scale}


class QuantParams:
    """An opened quant-params artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @property
    def scheme(self) -> str:
        """Name of the scheme of all linears, or of the schemes of which each has one."""
        return str(self.artifact.manifest.settings["scheme"])

    def scheme_of(self, component: str, linear: str) -> QuantScheme:
        """The scheme of `linear`.

        Raises:
            VqError: its codes are of none that the artifact says.
        """
        codes = self.artifact.entry(component, f"{linear}.codes")
        groups = self.artifact.manifest.components[component].tensors.get(f"{linear}.group_scale")
        scheme = stored_scheme(codes, groups)
        if scheme is None or scheme not in schemes_named(self.scheme):
            raise VqError(f"The codes of `{linear}` in {self.artifact.path} are not {self.scheme}: quantize again.")
        return scheme

    def linear(self, component: str, linear: str, device: str = "cpu") -> Quantized:
        """Codes, scale and rotation of one linear; codes of fewer bits than 8 as INT8, with their groups.

        Raises:
            VqError: its input cannot be rotated so, or the codes are of another scheme.
        """
        scheme, names = self.scheme_of(component, linear), [f"{linear}.codes", f"{linear}.scale"]
        if scheme.grouped:
            names.append(f"{linear}.group_scale")
        codes, scale, *groups = self.artifact.tensors(component, names, device).values()
        found = Quantized(codes, scale, self.rotation(component, linear))
        if groups:
            found = grouped.unpack(grouped.Packed(codes, groups[0], scale, found.rotation))
        if not rotation.fits(found.rotation, found.codes.shape[1]):
            raise VqError(
                f"`{linear}.rotation` in {self.artifact.path} is {found.rotation}, which is no power of 4 that divides "
                f"the {found.codes.shape[1]} inputs: quantize again."
            )
        return found

    def rotation(self, component: str, linear: str) -> int:
        """How many channels of what `linear` reads are rotated together; 1 for none."""
        name = f"{linear}.rotation"
        if name not in self.artifact.manifest.components[component].tensors:
            return rotation.NONE
        (group,) = self.artifact.tensors(component, [name]).values()
        return int(group)

    def replaced(self, component: str) -> frozenset[str]:
        """Names of the smoothed weights' tensors in whose place those of the artifact come."""
        return frozenset(
            name for name in self.artifact.manifest.components[component].tensors if name.rpartition(".")[2] not in OWN
        )

    def replacements(self, component: str, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """Those of `names` that are `replaced`, fp32."""
        replaced = self.replaced(component)
        return self.artifact.tensors(component, [name for name in names if name in replaced], device)

    def mean(self, component: str, group: Group, device: str = "cpu") -> Tensor | None:
        """What the smoothed input of `group` has lost before it is read, fp32 `[in]`; None for nothing."""
        return None if subtracts_itself(group) else self._mean(component, group, device)

    def input_mean(self, component: str, group: Group, device: str = "cpu") -> Tensor | None:
        """What the linears of `group` subtract from what they read, fp32 `[in]`; None for nothing."""
        return self._mean(component, group, device) if subtracts_itself(group) else None

    def _mean(self, component: str, group: Group, device: str) -> Tensor | None:
        name = f"{group.name}.mean"
        if name not in self.artifact.manifest.components[component].tensors:
            return None
        (mean,) = self.artifact.tensors(component, [name], device).values()
        return mean

    def kept(self, component: str) -> frozenset[str]:
        """Names of the linears that stay in full precision, see `vq_core.artifacts.kept`; all that read an input do.

        Raises:
            VqError: the transformer has no such linear.
        """
        tensors = self.artifact.manifest.components[component].tensors
        linears = {name.removesuffix(".codes") for name in tensors if name.endswith(".codes")}
        said = self.artifact.manifest.measured.get(KEPT, {})
        return kept_names(said, component, linears, self.artifact.path)

    def decisions(self, component: str) -> dict[str, Any]:
        """How each linear was rounded and its error, by linear name; a kept one's with `kept`, and no correction."""
        decisions, kept = read_decisions(self.artifact, component), self.kept(component)
        return {
            linear: {**decision, "kept": True, "bias_corrected": False} if linear in kept else decision
            for linear, decision in decisions.items()
        }


def open_qparams(path: Location) -> QuantParams:
    """Open the quant-params artifact in `path`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    with models_told(path):
        return QuantParams(open_artifact(path, KIND, FORMAT))
