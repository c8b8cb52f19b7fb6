"""Typed schema of ``params.yaml``: one study, with every setting explicit.

Keys that affect results have no defaults here: those that a file may leave out are filled in before it is checked
(`moonshine.config.defaults`), so that both engines see all of them. Exceptions are keys whose absence is itself a
setting (``teacher.taps``: discovered automatically) and settings of a mixed student's search, whose defaults are
documented and stored with its structure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from moonshine.config.augment import Augment
from moonshine.config.defaults import with_defaults
from moonshine.config.errors import explain_all
from moonshine.config.methods import Method
from moonshine.config.networks import Ship, Student
from moonshine.config.reading import read_yaml
from moonshine.config.teacher import Teacher
from moonshine.config.training import SHARED, Runtime, Training
from moonshine.datasets import DATASET_KINDS, Data
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Key, Section, Seed
from moonshine.networks.families import is_model

_SHOWN = 20
RESERVED = ("teacher", "scratch")


class Report(Section):
    """Settings of the report; ``published`` is a CSV file of published errors to show beside the study's."""

    published: FilePath | None


class Study(Section):
    """Content of ``params.yaml``."""

    study: Key
    data: Data
    augment: Augment
    teacher: Teacher
    students: Annotated[dict[Key, Student], Field(min_length=1)]
    methods: dict[Key, Method]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    training: Training
    runtime: Runtime
    report: Report
    ship: Ship | None

    @model_validator(mode="after")
    def _names(self) -> Study:
        for section, names in (("students", self.students), ("methods", self.methods)):
            for name in names:
                if name in RESERVED:
                    raise ValueError(
                        f"{section}.{name}: the name is reserved; choose another than {', '.join(RESERVED)}"
                    )
        for epochs in dict.fromkeys(self.recipe(student).epochs for student in self.students):
            for name, method in self.methods.items():
                try:
                    method.phases(epochs)
                    method.check_mixes(self.augment)
                except MoonshineError as error:
                    raise ValueError(f"methods.{name}.{error}") from None
        for name, student in self.students.items():
            if student.kwargs and not is_model(self.network_of(name)):
                raise ValueError(
                    f"students.{name}.kwargs: belong to a third-party network; found them with {self.network_of(name)}"
                )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a seed twice")
        return self

    @model_validator(mode="after")
    def _crops_fit_the_data(self) -> Study:
        augment, data = self.augment, self.data
        if augment.resized_crop is not None and not data.is_encoded:
            encoded = ", ".join(
                called for kind in DATASET_KINDS if kind.is_encoded for called in kind.called()
            )
            raise ValueError(
                f"augment.resized_crop belongs to images that are decoded during training ({encoded}); found "
                f"data.name: {data.name}; allowed there: crop_padding"
            )
        if data.is_encoded and augment.resized_crop is None:
            raise ValueError(
                f"augment.resized_crop: missing; data.name: {data.name} needs it, such as "
                "{scale: [0.08, 1.0], ratio: [0.75, 1.3333]}"
            )
        if data.is_encoded and augment.crop_padding:
            raise ValueError(
                f"augment.crop_padding: found {augment.crop_padding}; allowed beside resized_crop: 0"
            )
        return self

    @model_validator(mode="after")
    def _erases_less_than_an_image(self) -> Study:
        stated = getattr(self.data, "crop", None) or getattr(self.data, "size", None)
        cutout = self.augment.cutout
        if cutout and isinstance(stated, int) and cutout > stated:
            raise ValueError(
                f"augment.cutout: found {cutout}; allowed: up to {stated}, the side of the images"
            )
        return self

    @model_validator(mode="after")
    def _belongs_together(self) -> Study:
        if self.data.is_dense:
            try:
                self.augment.check_label_maps()
            except MoonshineError as error:
                raise ValueError(str(error)) from None
        only_dense: dict[str, Any] = {"augment.crop": self.augment.crop}
        for key, recipe in {"training": self.training, **self.own_recipes}.items():
            only_dense[f"{key}.class_weights"] = recipe.class_weights
            for shared in SHARED:
                found, allowed = getattr(recipe, shared), getattr(self.training, shared)
                if found != allowed:
                    raise ValueError(
                        f"{key}.{shared}: found {found}, where training.{shared} is {allowed}; allowed: only under "
                        "training, the same for every network"
                    )
        for key, value in only_dense.items():
            if value is not None and not self.data.is_dense:
                dense = ", ".join(
                    called for kind in DATASET_KINDS if kind.is_dense for called in kind.called()
                )
                raise ValueError(
                    f"{key} belongs to data with label maps ({dense}); found data.name: {self.data.name}"
                )
        return self

    @model_validator(mode="after")
    def _differentiates_once(self) -> Study:
        """Refuse what has no second derivative beside terms that need one."""
        refused = {
            "runtime.compile: found true; allowed: false": self.runtime.compile,
            "training.sync_batch_norm: found true; allowed: false": self.training.sync_batch_norm,
            f"data.name: found {self.data.name}; allowed: data with one label per image": self.data.is_dense,
        }
        for name, method in self.methods.items():
            for term, settings in method.terms.items():
                for found in [
                    found for found, is_so in refused.items() if is_so and settings.differentiates_twice
                ]:
                    raise ValueError(f"{found}, beside methods.{name}.{term}, which differentiates twice")
        return self

    @property
    def own_recipes(self) -> dict[str, Training]:
        """Return the recipes that the teacher or a student has of its own, by key."""
        found = {
            "teacher.training": self.teacher.training,
            "teacher.finetune": self.teacher.finetune,
            **{f"students.{name}.training": student.training for name, student in self.students.items()},
        }
        return {key: recipe for key, recipe in found.items() if recipe}

    def recipe(self, student: str | None = None) -> Training:
        """Return the recipe that trains a student, or the teacher: its own, else the study's."""
        if student is not None:
            return self.students[student].training or self.training
        return self.teacher.finetune or self.teacher.training or self.training

    def kwargs_of(self, student: str) -> dict[str, Any]:
        """Return the arguments of a student's network: in the teacher's network, its own beside the teacher's."""
        same = self.network_of(student) == self.teacher.name
        return {**(self.teacher.kwargs if same else {}), **(self.students[student].kwargs or {})}

    @model_validator(mode="after")
    def _compresses_what_was_trained(self) -> Study:
        for name, student in self.students.items():
            if student.compression and (ema := self.recipe(name).ema):
                raise ValueError(
                    f"training.ema: found {ema} beside students.{name}, which is compressed: averages of "
                    "weights are not shared; allowed: no ema"
                )
            for key, method in self.methods.items():
                try:
                    method.phases(self.epochs_of(name, key))
                except MoonshineError as error:
                    raise ValueError(f"methods.{key}.{error} (of students.{name})") from None
        return self

    def epochs_of(self, student: str, method: str | None = None) -> int:
        """Return how many epochs a student is trained, with those in which it is compressed."""
        settings = self.students[student]
        if settings.compression is None:
            return self.recipe(student).epochs
        is_trained = method is not None and settings.is_teacher
        return settings.compression.epochs + (0 if is_trained else self.recipe(student).epochs)

    def network_of(self, student: str) -> str:
        """Return the network that a student is made from: its own, else the teacher's."""
        return self.students[student].network or self.teacher.name

    @property
    def trusted(self) -> frozenset[str]:
        """Return the models that the study names: only their code may run, whatever files of results say."""
        names = (self.teacher.name, *(student.network for student in self.students.values()))
        return frozenset(name for name in names if name and is_model(name))


def load_study(path: Path | str = "params.yaml") -> Study:
    """Read and check a study file.

    Raises MoonshineError naming every invalid key, the value found and what is allowed.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise MoonshineError(f"{path}: expected a mapping with the keys {', '.join(Study.model_fields)}")
    return parse_study(content, str(path))


def parse_study(content: dict[str, Any], source: str = "params") -> Study:
    """Check a study that is already a mapping, with defaults filled in; ``source`` names it in errors."""
    content = with_defaults(content)
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        lines = explain_all(map(dict, error.errors()), content, Study)
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise MoonshineError(f"{source}: " + ("\n" + " " * len(source) + "  ").join(lines)) from None
