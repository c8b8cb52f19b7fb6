"""ERFNet's blocks as places: its students by substitution are those that are built."""

import pytest
import torch

import moonshine
from moonshine.search.fisher import per_place
from moonshine.structures.build import build, residual_blocks
from moonshine.substitution.layout import lay_out

TINY = "erfnet-0.5"  # stages of 32, 64, 32 and 8 channels


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("block", ["G(4)", "B(2)", "BG(2,M)"])
@pytest.mark.parametrize("shape", [None, (3, 16, 24)])
def test_a_student_by_substitution_is_the_one_that_is_built(block, shape):
    torch.manual_seed(0)
    teacher, built = build(TINY, num_classes=4), build(TINY, block, num_classes=4)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    made = moonshine.substitute(teacher, block, input_shape=shape)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert made.state_dict().keys() == built.state_dict().keys()
    assert str(made) == str(built)  # shapes, groups, dilations, dropout
    assert count(made) == count(built)
    new = tuple(f"{path}.branch." for path in residual_blocks(TINY))
    rest = {name: tensor for name, tensor in made.state_dict().items() if not name.startswith(new)}
    assert all(torch.equal(before[name], tensor) for name, tensor in rest.items())
    images, labels = torch.randn(2, 3, 16, 24), torch.randint(4, (2, 16, 24))
    assert all(value > 0 for value in per_place(made, images, labels, residual_blocks(TINY)).values())


def test_substitution_keeps_to_what_is_included_and_to_what_fits():
    teacher = build(TINY, num_classes=4)  # stages of 32, 64, 32 and 8 channels
    mixed = {path: "S" if path.startswith("stage4") else "G(16)" for path in residual_blocks(TINY)}
    assert str(moonshine.substitute(teacher, "G(16)")) == str(build(TINY, mixed, num_classes=4))
    layout = lay_out(teacher)
    assert [place.path for place in layout.places] == list(residual_blocks(TINY))
    assert layout.kept["down2.conv"] == "a downsampler"
    assert [place.path for place in lay_out(teacher, include=["stage3", "down2.conv"]).places] == [
        "down2.conv",
        "stage3.0",
        "stage3.1",
    ]
    student = moonshine.substitute(teacher, {"stage2.3": "B(2)"})
    assert student.stage2[3].branch[3].dilation == (16, 1)
