"""Parameter groups for weight decay, by the module that holds a parameter, never by its name.

Source: deficient-efficient (BayesWatch), which scales the decay of compressed weights by what the network was
compressed to: one step of the factors moves the dense weight by more than its own decay would.
"""

from __future__ import annotations

from torch import nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.expressions import Decay
from moonshine.blocks.layers import GeneratedConv


def decay_groups(module: nn.Module) -> dict[Decay, list[nn.Parameter]]:
    """Return every parameter of a module in exactly one group, in the module's order.

    The factors of generated weights are in the group that their generator names, the other convolutions of a cheap
    block in the one that its kind names, everything else in ``plain``.
    """
    known: dict[int, Decay] = {}
    for cheap in module.modules():
        if isinstance(cheap, CheapConvolution):
            for layer in cheap.modules():
                if isinstance(layer, GeneratedConv):
                    known |= {id(factor): layer.generator.decay for factor in layer.factors}
                elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    known[id(layer.weight)] = cheap.decay
    groups: dict[Decay, list[nn.Parameter]] = {"plain": [], "scaled": [], "none": []}
    for parameter in module.parameters():
        groups[known.get(id(parameter), "plain")].append(parameter)
    return groups


def decay_factors(module: nn.Module) -> dict[nn.Parameter, float]:
    """Return the factor on the study's weight decay for each parameter where it is not 1."""
    groups = decay_groups(module)
    scale = decay_scale(module) if groups["scaled"] else 1.0
    return dict.fromkeys(groups["scaled"], scale) | dict.fromkeys(groups["none"], 0.0)


def decay_in_words(module: nn.Module) -> str:
    """Return how many parameters have the study's weight decay, a scaled one and none."""
    said = {"plain": "as the study's", "scaled": f"times {decay_scale(module):.3g}", "none": "none"}
    counts = {name: sum(each.numel() for each in group) for name, group in decay_groups(module).items()}
    return ", ".join(f"{said[name]} for {count:,} parameters" for name, count in counts.items() if count)


def decay_scale(module: nn.Module) -> float:
    """Return the factor of the group "scaled": parameters over those of the same network with ordinary blocks."""
    total = sum(parameter.numel() for parameter in module.parameters())
    saved = 0
    inside: set[nn.Module] = set()
    for cheap in module.modules():
        if isinstance(cheap, CheapConvolution) and cheap not in inside:
            inside |= set(cheap.modules())
            saved += cheap.ordinary_parameters - sum(parameter.numel() for parameter in cheap.parameters())
    return total / (total + saved)
