"""The study imagenet as it is shipped: the published sizes of its students, and where attention is transferred."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moonshine.blocks.registry import PAPER
from moonshine.config import Study, load_study
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine.substitution.layout import lay_out
from moonshine.substitution.substitute import choose
from moonshine.substitution.tap_discovery import check_taps, tap_sizes
from moonshine_workflow.graph.structures import blocks_of
from moonshine_workflow.students.layouts import Images, given_structure, of_study, teacher_structure

STUDIES = Path(__file__).parents[2] / "studies"
IMAGES = Images((3, 224, 224), 1000)
STAGES = ("layer1", "layer2", "layer3", "layer4")


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(STUDIES / "imagenet.yaml")


@pytest.fixture(scope="module")
def teacher(study: Study) -> StudyStructure:
    with torch.device("meta"):
        return teacher_structure(study, IMAGES)


def student_of(study: Study, name: str) -> StudyStructure:
    with torch.device("meta"):
        structure = given_structure(study, study.network_of(name), blocks_of(study, name), IMAGES)
        return of_study(study, structure, STAGES, IMAGES)


def test_the_teacher_is_torchvisions_and_its_taps_are_the_four_stages(teacher: StudyStructure) -> None:
    assert (teacher.parameters, f"{teacher.macs / 1e6:.2f}") == (21_797_672, "3663.76")
    assert teacher.taps == STAGES


@pytest.mark.parametrize(
    ("student", "parameters", "macs"),
    [
        ("G4", 8_146_600, "1389.38"),
        ("GN", 3_132_520, "553.61"),
        ("resnet-18", 11_689_512, "1814.07"),
        ("resnet-18-half", 3_191_976, "905.03"),
    ],
)
def test_students_have_their_published_sizes_and_the_teachers_taps(
    student: str, parameters: int, macs: str, study: Study, teacher: StudyStructure
) -> None:
    structure = student_of(study, student)
    assert (structure.parameters, f"{structure.macs / 1e6:.2f}") == (parameters, macs)
    with torch.device("meta"):
        sizes = tap_sizes(from_structure(teacher), STAGES, IMAGES.shape)
        check_taps(STAGES, sizes, from_structure(structure), IMAGES.shape)


def test_every_block_of_the_paper_fits_everywhere(study: Study, teacher: StudyStructure) -> None:
    blocks = [student.block for student in study.students.values() if student.block]
    assert sorted(blocks) == sorted(PAPER)
    with torch.device("meta"):
        layout = lay_out(from_structure(teacher), IMAGES.shape)
        for block in blocks:
            chosen, refused = choose(layout, block)
            assert (len(chosen), refused) == (16, {})


def test_the_twin_has_the_shape_of_the_study(study: Study) -> None:
    twin = load_study(STUDIES / "imagenet-smoke.yaml")
    assert twin.data.is_encoded
    assert twin.augment == study.augment
    assert twin.teacher.name == study.teacher.name
    assert twin.methods == study.methods
    assert twin.students.items() <= study.students.items()
    assert twin.training.schedule.kind == study.training.schedule.kind
