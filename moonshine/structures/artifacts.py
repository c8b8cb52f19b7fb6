"""Trained networks on disk: weights as safetensors, structure as JSON, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from moonshine.errors import MoonshineError, first_few, first_line
from moonshine.files import interpreted, unreadable, write_bytes
from moonshine.networks.models import Trust
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure


def save_weights(module: nn.Module, path: Path) -> None:
    """Write `weights_bytes`."""
    write_bytes(path, weights_bytes(module))


def weights_bytes(module: nn.Module) -> bytes:
    """Return parameters and buffers of ``module`` as fp32 safetensors (names as in its ``state_dict``).

    A tensor with several names (tied weights) is written once, under the first. MoonshineError for a network whose
    state does not consist of tensors.
    """
    tensors: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise MoonshineError(
                f"{name} of {type(module).__name__} is a {type(tensor).__name__}, which no weights file can hold; "
                "allowed: a state_dict of tensors alone (buffers instead of extra state)"
            )
        tensors.setdefault(id(tensor), (name, tensor))
    try:
        return save_tensors({name: own.detach().cpu().contiguous() for name, own in tensors.values()})
    except Exception as error:  # a type of number, or parts of one tensor, that safetensors does not write
        raise MoonshineError(
            f"the weights of {type(module).__name__} cannot be written: {first_line(error)}; allowed: tensors of their "
            "own"
        ) from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill ``module`` from a safetensors file of exactly its architecture.

    MoonshineError if the file is missing or damaged, or listing the tensors that are missing, unexpected, or of another
    shape or type.
    """
    fill(module, read_tensors(path), path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; MoonshineError if it is missing or damaged."""
    try:
        return load_tensors(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except SafetensorError as error:
        raise MoonshineError(f"{path}: damaged, not readable as safetensors ({error})") from None


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``module`` with these tensors, which must be exactly its own; ``path`` names them in the MoonshineError.

    Of several names of one tensor (tied weights) one is enough.
    """
    wanted = module.state_dict(keep_vars=True)
    given = {id(tensor): tensors[name] for name, tensor in wanted.items() if name in tensors}
    tensors = {**{name: given[id(own)] for name, own in wanted.items() if id(own) in given}, **tensors}
    both = {name: (tensors[name], tensor) for name, tensor in wanted.items() if name in tensors}
    problems = [
        [f"missing {name}" for name in wanted if name not in tensors],
        [f"unexpected {name}" for name in tensors if name not in wanted],
        [
            f"{name} is {tuple(found.shape)}, the network has {tuple(tensor.shape)}"
            for name, (found, tensor) in both.items()
            if found.shape != tensor.shape
        ],
        [
            f"{name} is of {found.dtype}, the network's of {tensor.dtype}"
            for name, (found, tensor) in both.items()
            if not _converts(found.dtype, tensor.dtype)
        ],
    ]
    if said := [first_few(kind, 3, "; ") for kind in problems if kind]:
        raise MoonshineError(f"{path}: weights of another architecture: {'; '.join(said)}")
    module.load_state_dict(tensors)


def _converts(found: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether one type converts to another up to rounding; 8-bit codes, which need a scale, do not."""
    alike = (found.is_floating_point, found.is_complex) == (wanted.is_floating_point, wanted.is_complex)
    return alike and (found.itemsize > 1 or found == wanted or not wanted.is_floating_point)


def rebuild_with_weights(module: nn.Module, structure: Structure, trust: Trust = ()) -> nn.Module:
    """Rebuild a network from its structure and the weights of ``module``, as its files would.

    ``trust`` as for `load`. MoonshineError if they do not belong together or cannot be written.
    """
    found = from_structure(structure, trust)
    fill(found, load_tensors(weights_bytes(module)), Path("structure"))
    return found


def load(folder: Path | str, device: torch.device | str = "cpu", *, trust: Trust = ()) -> nn.Module:
    """Load the trained network of a folder, in eval mode.

    ``folder`` holds ``weights.safetensors`` and ``structure.json``, as every trained node writes them. Networks of
    moonshine, torchvision and timm are always built; a function on the Python path, which ``structure.json`` may also
    name, runs only if ``trust`` names it: its package or module (``"my_pkg"``), or the function (``"my_nets:build"``).
    MoonshineError if either file is missing or they do not belong together, and for code that is not trusted.
    """
    folder = Path(folder)
    path = folder / "structure.json"
    structure = Structure.read(path)
    with interpreted(path):
        module = from_structure(structure, trust)
    load_weights(module, folder / "weights.safetensors")
    return module.to(device).eval()
