"""One LoRA on disk: its tensors by their keys, and what is noted beside them."""

import hashlib
import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import FLOAT_DTYPES, TensorInfo, sha256_of
from vq_core.files.tensor_folder import gather_tensors, index_tensors
from vq_core.model.expert_names import EXPERTS, expert_of
from vq_core.model.lora_keys import LoraPart, is_for_second_expert, other_method, spelling_of
from vq_core.model.lora_request import LoraRequest
from vq_core.model.lora_settings import (
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    LoraSettings,
    Noted,
    may_be_of,
    noted_in_headers,
    peft_configs,
    settings_for,
)
from vq_core.numerics.finite import require_finite
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy

logger = logging.getLogger(__name__)


class Lora:
    """The tensors of one LoRA, by their keys; nothing is kept loaded."""

    def __init__(self, request: LoraRequest, model: str = "the model") -> None:
        """Open the LoRA that is to be merged into `model`, a name for messages.

        Raises:
            VqError: there is none, a file of it is damaged, or it is of a method that is not merged here.
        """
        self.request = request
        self.model = model
        path = _local(request.path)
        if path.is_dir():
            self._files = index_tensors(path)
        elif path.is_file():
            self._files = gather_tensors([path])
        else:
            raise VqError(f"There is no LoRA {path}: give a safetensors file, or a folder with one.")
        self.infos: dict[str, TensorInfo] = {key: file.infos[key] for key, file in self._files.items()}
        if not self.infos:
            raise VqError(f"{path} holds no tensor: get the LoRA again.")
        for key, info in self.infos.items():
            if method := other_method(key):
                raise VqError(
                    f"`{key}` in {path} is of {method}, which is not merged here: "
                    "merge it with the tool that trained it."
                )
            if info.dtype not in FLOAT_DTYPES and not key.endswith(".alpha"):
                raise VqError(f"`{key}` in {path} is {info.dtype}: give the LoRA in full or half precision.")
            if 0 in info.shape:
                raise VqError(f"`{key}` in {path} is {list(info.shape)}, which holds no value: get the LoRA again.")
        self._weights = sorted({file.path for file in self._files.values()})
        self._noted: Noted = noted_in_headers(self._weights)
        config = self._config_beside(path)
        self._noted = {**self._noted, **(config[1] if config else {})}
        self._read = [*self._weights, *([config[0]] if config else [])]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file or, of several, over theirs in order; PEFT's configuration is one of them."""
        digests = [sha256_of(path) for path in self._read]
        return digests[0] if len(digests) == 1 else hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()

    @cached_property
    def expert(self) -> str | None:
        """The component that its files say they are for, by name or metadata; None where they do not."""
        said = {expert_of(path) for path in self._weights}
        return said.pop() if len(said) == 1 else None

    @cached_property
    def of_second_expert(self) -> frozenset[str]:
        """Keys that say themselves that they are for the second expert; the others are then for the first."""
        return frozenset(key for key in self.infos if is_for_second_expert(key))

    def keys_for(self, component: str) -> list[str]:
        """The keys that are for `component`; of a LoRA that does not say it, all of them."""
        if self.request.component not in (None, component):
            return []
        second = component == EXPERTS["low"]
        return [key for key in self.infos if not self.of_second_expert or (key in self.of_second_expert) == second]

    def settings(self, component: str) -> LoraSettings:
        """What is noted beside the tensors for those that are merged into `component`.

        Raises:
            VqError: it was trained with a setting of PEFT that is not merged here, or its alpha is no number.
        """
        return settings_for(self._noted, component, self.request.path)

    def load(self, key: str) -> Tensor:
        """The tensor `key`, fp32.

        Raises:
            VqError: the file was changed since it was opened, or a value is not finite.
        """
        return self._checked(key, self._files[key].load([key])[key])

    def numbers(self, keys: Iterable[str]) -> dict[str, float]:
        """The only value of each of the tensors `keys`, which one read of a file gets.

        Raises:
            VqError: the file was changed since it was opened, or a value is not finite.
        """
        keys = list(keys)
        found: dict[str, float] = {}
        for file in {self._files[key] for key in keys}:
            loaded = file.load([key for key in keys if self._files[key] is file])
            found |= {key: float(self._checked(key, tensor)) for key, tensor in loaded.items()}
        return found

    def _checked(self, key: str, tensor: Tensor) -> Tensor:
        tensor = tensor.float()
        require_finite(tensor, key, self.request.path)
        return tensor

    def _config_beside(self, path: Path) -> tuple[Path, Noted] | None:
        """PEFT's configuration of this LoRA, which lies in `path` or beside it, under whatever name.

        Raises:
            VqError: that which has PEFT's name is another LoRA's, or several fit and differ.
        """
        pairs = {
            key: spelling for key in self.infos if (spelling := spelling_of(key)) and spelling.part is LoraPart.DOWN
        }
        ranks = {self.infos[key].shape[0] for key in pairs if self.infos[key].shape}
        modules = {spelling.module for spelling in pairs.values()}
        folder = path if path.is_dir() else path.parent
        named = folder / PEFT_CONFIG
        if (path.is_dir() or path.name == PEFT_WEIGHTS) and is_there(named):
            config = read_json(named)
            if not may_be_of(config, ranks, modules):
                raise VqError(
                    f"{named} is not the configuration of {path}, whose ranks or modules are others: get both again."
                )
            return named, config
        noted = {"lora_alpha", *(f"{component}.lora_alpha" for component in EXPERTS.values())}
        if not pairs or not noted.isdisjoint(self._noted) or any(key.endswith(".alpha") for key in self.infos):
            return None
        try:
            configs = peft_configs(_folder_of(self.request.path, folder))
        except VqError as error:
            logger.warning(
                "%s has no alpha, and what lies beside it cannot be read, so it is taken to be the rank: %s",
                path,
                error,
            )
            return None
        fitting = [(file, config) for file, config in configs.items() if may_be_of(config, ranks, modules)]
        if not fitting:
            if configs:
                logger.warning(
                    "%s has no alpha, and %s beside it is another LoRA's: alpha is taken to be the rank.",
                    path, " and ".join(file.name for file in configs),
                )  # fmt: skip
            return None
        if any(config != fitting[0][1] for _, config in fitting):
            raise VqError(
                f"{fitting[0][0].name} and {fitting[1][0].name} in {folder} may both be the configuration of {path}, "
                "and they differ: put the LoRA and its configuration into a folder of their own."
            )
        logger.warning(
            "%s has no alpha of its own and takes it from %s beside it: %s.",
            path, fitting[0][0].name, fitting[0][1].get("lora_alpha"),
        )  # fmt: skip
        return fitting[0]


def _local(path: Location) -> Path:
    """Where the LoRA lies here; what PEFT keeps beside its file comes with it from a URI."""
    if path.name == PEFT_WEIGHTS:
        return local_copy(path.parent, only=[PEFT_WEIGHTS, PEFT_CONFIG]) / PEFT_WEIGHTS
    return local_copy(path)


def _folder_of(location: Location, folder: Path) -> Path:
    """Where JSON files beside the LoRA at `location` lie, which itself lies in `folder`: from a URI they are copied."""
    if isinstance(location, Path) or Path(str(location)) == folder:
        return folder
    return local_copy(location.parent, only=["*.json"], without=["*/*"])
