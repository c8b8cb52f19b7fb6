"""The typed schema of ``params.yaml``, a file for each concern."""

from moonshine.config.data import (
    Arrays,
    Augment,
    Cifar,
    Cityscapes,
    Data,
    Digits,
    ImageFolder,
    SegmentationFolder,
)
from moonshine.config.networks import Ship, Student, Teacher
from moonshine.config.study import Study, load_study, parse_study
from moonshine.config.training import (
    AT,
    KD,
    Adam,
    ClassWeights,
    Method,
    OneCycle,
    Optimizer,
    Poly,
    Runtime,
    Step,
    Training,
)

__all__ = [
    "AT",
    "KD",
    "Adam",
    "Arrays",
    "Augment",
    "Cifar",
    "Cityscapes",
    "ClassWeights",
    "Data",
    "Digits",
    "ImageFolder",
    "Method",
    "OneCycle",
    "Optimizer",
    "Poly",
    "Runtime",
    "SegmentationFolder",
    "Ship",
    "Step",
    "Student",
    "Study",
    "Teacher",
    "Training",
    "load_study",
    "parse_study",
]
