"""The typed schema of ``params.yaml``, a file for each concern."""

from moonshine.config.data import Arrays, Augment, Cifar, Data, Digits, ImageFolder
from moonshine.config.networks import Ship, Student, Teacher
from moonshine.config.study import Study, load_study, parse_study
from moonshine.config.training import AT, KD, Method, OneCycle, Optimizer, Runtime, Step, Training

__all__ = [
    "AT",
    "KD",
    "Arrays",
    "Augment",
    "Cifar",
    "Data",
    "Digits",
    "ImageFolder",
    "Method",
    "OneCycle",
    "Optimizer",
    "Runtime",
    "Ship",
    "Step",
    "Student",
    "Study",
    "Teacher",
    "Training",
    "load_study",
    "parse_study",
]
