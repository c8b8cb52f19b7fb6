"""Trial run of a third-party model before it trains: one training step, saved and loaded weights, its graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moonshine.config import Study
from moonshine.distillation.objective import phases_of
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError, first_line
from moonshine.networks.families import is_model
from moonshine.structures.artifacts import rebuild_with_weights
from moonshine.structures.build import from_structure
from moonshine.structures.describe import check_logits
from moonshine.structures.structure import Structure
from moonshine.training.execution import Execution, resolve
from moonshine.training.labels import check_no_probabilities, cross_entropy
from moonshine_workflow.students.layouts import Images, naming_key

TRIED_ON = 2
"""Images in the batch that a network is tried on, unless the study's batches are smaller."""


def try_out(study: Study, structure: Structure, images: Images, student: str | None = None) -> None:
    """Raise MoonshineError unless a model can be trained, rebuilt from its files and, if the study ships one, exported.

    It is the network of a ``student``, or the teacher's. Also if it does not accept the study's crops, or cannot train
    on an epoch's last batch when that has one image.

    The trial is a forward and a backward pass on noise, in train mode, in the memory layout and precision of training.
    It runs on the CPU, in fp32 where training would use bf16 on a GPU. Built-in networks are not tried; the tests do
    that. No state is changed, including torch's random number generator.
    """
    if not is_model(structure.network):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = from_structure(structure, study.trusted)
        batch_size = study.recipe(student).batch_size
        _check_batches(study, network, structure.network, images, batch_size)
        execution = _execution(study).suiting(network, images.shape)
        _train_once(study, network, images, execution, min(TRIED_ON, batch_size))
        _check_kept(study, network, structure, images, execution)
    if study.ship:
        _check_exports(network, structure, images)


def check_methods(study: Study, pair: Pair, student: str) -> None:
    """Raise MoonshineError naming the first method with a term that does not suit a student and its teacher."""
    epochs = study.recipe(student).epochs
    for key, method in study.methods.items():
        naming_key(f"methods.{key}", lambda: phases_of(pair, method, epochs))  # noqa: B023


def _check_batches(study: Study, network: nn.Module, name: str, images: Images, batch_size: int) -> None:
    if crop := study.augment.crop:
        try:
            check_logits(network, name, (images.shape[0], *crop), images.classes, study.data.is_dense)
        except MoonshineError as error:
            raise MoonshineError(f"augment.crop: {error}") from None
    count = images.dataset.counts["train"] if images.dataset else 0
    last = count % batch_size or min(count, batch_size)
    if last // study.training.devices != 1:
        return
    try:
        with torch.no_grad():
            network.train()(torch.zeros(1, *images.shape))
    except ValueError as error:  # torch's, for a batch norm with a single value per channel
        raise MoonshineError(
            f"training.batch_size: {batch_size} of {count} images leaves one for the last batch of an epoch, which "
            f"this network cannot train on ({error}); allowed: another training.batch_size"
        ) from None


def _execution(study: Study) -> Execution:
    """Return the execution settings of training, as far as a CPU allows."""
    cpu = study.runtime.model_copy(update={"device": "cpu"})
    on_gpu = study.runtime.device != "cpu" and torch.cuda.is_available()
    return resolve(cpu, "fp32" if on_gpu else study.training.precision)


def _noise(count: int, shape: tuple[int, int, int], execution: Execution) -> Tensor:
    return torch.randn(count, *shape).contiguous(memory_format=execution.memory_format)


def _train_once(study: Study, network: nn.Module, images: Images, execution: Execution, count: int) -> None:
    height, width = study.augment.crop or images.shape[1:]
    shape = (images.shape[0], height, width)
    labels = torch.zeros((count, height, width) if study.data.is_dense else count, dtype=torch.long)
    wanted = (count, images.classes, *labels.shape[1:])
    try:
        with execution.autocast():
            logits = network.train()(_noise(count, shape, execution))
    except Exception as error:  # whatever a third-party forward pass raises
        raise _cannot_train(count, shape, execution, error) from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise MoonshineError(
            f"in training mode {count} images give {found}; allowed: logits {wanted}, as in evaluation (auxiliary "
            "outputs may be switched off by its builder, as with kwargs: {aux_logits: false})"
        )
    check_no_probabilities(logits, "the network")
    try:
        cross_entropy(logits, labels).backward()
    except Exception as error:  # whatever a third-party backward pass raises
        raise _cannot_train(count, shape, execution, error) from error


def _cannot_train(
    count: int, shape: tuple[int, ...], execution: Execution, error: Exception
) -> MoonshineError:
    layout = "channels_last" if execution.channels_last else "torch's own memory layout"
    return MoonshineError(
        f"it cannot be trained on a batch of {count} images of {'x'.join(map(str, shape))} "
        f"({layout}, {str(execution.dtype).removeprefix('torch.')}): {first_line(error)}"
    )


def _check_kept(
    study: Study, network: nn.Module, structure: Structure, images: Images, execution: Execution
) -> None:
    """Raise MoonshineError unless the trained network is the same after it is rebuilt and loads its saved weights."""
    again = execution.place(rebuild_with_weights(network, structure, study.trusted)).eval()
    before, after = network.eval().state_dict(), again.state_dict()
    if changed := [name for name in before if not _equal(before[name], after[name])]:
        raise MoonshineError(
            f"saved and loaded again, its {', '.join(changed[:3])} differ; allowed: a network that keeps what "
            "load_state_dict loads"
        )
    noise = _noise(1, images.shape, execution)

    def logits(one: nn.Module) -> Tensor:
        torch.manual_seed(1)
        with torch.no_grad():
            return one(noise.clone())

    if not torch.allclose(logits(network), logits(again), rtol=1e-3, atol=1e-4, equal_nan=True):
        raise MoonshineError(
            "saved and loaded again, it returns other logits: it depends on something outside its state_dict that "
            "differs each time it is built; allowed: register_buffer for such tensors"
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


def _check_exports(network: nn.Module, structure: Structure, images: Images) -> None:
    from moonshine.formats.source import plain_copy, to_program
    from moonshine_workflow.students.sizes import about_of  # loads torch.export, which takes seconds

    try:
        to_program(plain_copy(network), about_of(images, structure))
    except MoonshineError as error:
        raise MoonshineError(
            f"the study ships a network, and this one cannot be exported: {error}"
        ) from error
