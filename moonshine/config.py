"""The typed schema of ``params.yaml``: one study, and nothing hidden.

Keys that affect results have no defaults here, so that both engines see every one of them in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from moonshine.config_errors import describe
from moonshine.errors import MoonshineError

# DVC splits parameter names on dots, and both engines put these keys into stage and file names.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

RESERVED = ("teacher", "scratch")


class Section(BaseModel):
    """A mapping of the file: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Digits(Section):
    """scikit-learn's 1,797 handwritten digits, resized from 8x8 to ``size``; ``test`` is cut off first."""

    name: Literal["digits"]
    size: Annotated[int, Field(ge=8)]
    validation: Share
    test: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Annotated[int, Field(ge=0)]


class Cifar(Section):
    """CIFAR-10 or CIFAR-100 as torchvision downloads and checks them into ``root``."""

    name: Literal["cifar10", "cifar100"]
    root: str
    size: Literal[32]
    validation: Share
    split_seed: Annotated[int, Field(ge=0)]


class Arrays(Section):
    """The user's own ``.npz`` in the MedMNIST key convention; ``size: null`` keeps the images' own size."""

    name: Literal["arrays"]
    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=8)] | None
    validation: Share
    split_seed: Annotated[int, Field(ge=0)]


Data = Annotated[Digits | Cifar | Arrays, Field(discriminator="name")]


class Augment(Section):
    """Training-time augmentation: zero-pad by ``crop_padding`` and crop back, mirror half of the images."""

    crop_padding: Annotated[int, Field(ge=0)]
    flip: bool


class Teacher(Section):
    """The network that is trained first, with ordinary blocks."""

    network: str
    seed: Annotated[int, Field(ge=0)]


class Student(Section):
    """A block in the teacher's architecture, an ordinary smaller network, or a block in another network."""

    network: str | None = None
    block: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Student:
        if self.network is None and self.block is None:
            raise ValueError("needs 'block' (such as G(4)), 'network' (such as wrn-16-2) or both")
        return self


class KD(Section):
    """Knowledge distillation; see ``moonshine.losses.knowledge_distillation``."""

    form: Literal["textbook", "released"]
    temperature: Positive
    alpha: Annotated[float, Field(ge=0, le=1)]


class AT(Section):
    """Attention transfer; see ``moonshine.losses.attention_transfer``."""

    form: Literal["released", "paper", "resolution-free"]
    beta: NonNegative


class Method(Section):
    """A distillation loss: any of its terms, with their strengths."""

    kd: KD | None = None
    at: AT | None = None

    @model_validator(mode="after")
    def _has_a_term(self) -> Method:
        if self.kd is None and self.at is None:
            raise ValueError(
                "needs at least one of the terms 'kd', 'at' (scratch, without a teacher, always runs)"
            )
        return self


class Optimizer(Section):
    """Stochastic gradient descent; ``weight_decay`` acts on every parameter, as in the paper."""

    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    nesterov: bool

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Optimizer:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum > 0")
        return self


class Step(Section):
    """The learning rate is multiplied by ``factor`` at the start of each 0-based epoch in ``drops``."""

    kind: Literal["step"]
    drops: list[Annotated[int, Field(ge=1)]]
    factor: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Step:
        if self.drops != sorted(set(self.drops)):
            raise ValueError(f"drops must be ascending and distinct, found {self.drops}")
        return self


class OneCycle(Section):
    """Linear from ``start`` to 1 over the share ``warmup`` of steps, then cosine to ``end`` (times lr)."""

    kind: Literal["one-cycle"]
    warmup: Share
    start: Annotated[float, Field(ge=0, le=1)]
    end: Annotated[float, Field(ge=0, le=1)]


class Training(Section):
    """The recipe, shared by the teacher and every student."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Optimizer
    schedule: Annotated[Step | OneCycle, Field(discriminator="kind")]
    precision: Literal["auto", "fp32", "bf16"]

    @model_validator(mode="after")
    def _drops_happen(self) -> Training:
        if isinstance(self.schedule, Step) and self.schedule.drops and self.schedule.drops[-1] >= self.epochs:
            raise ValueError(
                f"schedule.drops {self.schedule.drops} must lie before the end: epochs is {self.epochs}"
            )
        return self


class Runtime(Section):
    """How a node is computed, not what: changing this reruns nothing."""

    threads: Annotated[int, Field(ge=1)]
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    channels_last: Literal["auto"] | bool
    compile: bool


class Report(Section):
    """``published``: a CSV of published errors to show beside ours."""

    published: str | None


class Study(Section):
    """Everything in ``params.yaml``."""

    study: Key
    data: Data
    augment: Augment
    teacher: Teacher
    students: Annotated[dict[Key, Student], Field(min_length=1)]
    methods: dict[Key, Method]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    training: Training
    runtime: Runtime
    report: Report

    @model_validator(mode="after")
    def _names(self) -> Study:
        for section, names in (("students", self.students), ("methods", self.methods)):
            for name in names:
                if name in RESERVED:
                    raise ValueError(
                        f"{section}.{name}: the name is reserved; choose another than {', '.join(RESERVED)}"
                    )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a seed twice")
        return self

    def network_of(self, student: str) -> str:
        """The network a student is made from: its own, else the teacher's."""
        return self.students[student].network or self.teacher.network

    def block_of(self, student: str) -> str:
        """The block a student is made of; S where it names only a network."""
        return self.students[student].block or "S"


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a study must not lose a block that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise MoonshineError(f"line {key_node.start_mark.line + 1}: the key '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


_TAGGED: dict[str, type[Section]] = {
    "digits": Digits,
    "cifar10": Cifar,
    "cifar100": Cifar,
    "arrays": Arrays,
    "step": Step,
    "one-cycle": OneCycle,
}


def load_study(path: Path | str = "params.yaml") -> Study:
    """Read and check a study file.

    Errors: ``MoonshineError`` naming every wrong key, the value found and what is allowed.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except FileNotFoundError:
        raise MoonshineError(
            f"{path}: no such file; copy one from studies/, such as studies/digits.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MoonshineError(f"{path}: not readable as YAML: {error}") from None
    except MoonshineError as error:
        raise MoonshineError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise MoonshineError(f"{path}: expected a mapping with the keys {', '.join(Study.model_fields)}")
    return parse_study(content, str(path))


def parse_study(content: dict[str, Any], source: str = "params") -> Study:
    """Check a study that is already a mapping; ``source`` names it in errors."""
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        lines = [describe(dict(item), content, Study, _TAGGED) for item in error.errors()]
        raise MoonshineError(f"{source}: " + ("\n" + " " * len(source) + "  ").join(lines)) from None
