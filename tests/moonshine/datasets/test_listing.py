"""What is found in a folder of pictures, in which order, and what is refused."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moonshine.datasets.listing import list_images
from moonshine.errors import MoonshineError
from tests.messages import naming
from tests.moonshine.datasets.flowers import picture, plant

COUNTS = {"train/rose": 2, "train/daisy": 1, "train/iris": 3, "test/rose": 2, "test/daisy": 3, "test/iris": 1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "flowers", COUNTS)


def test_the_order_and_the_labels_are_torchvisions(root: Path) -> None:
    from torchvision.datasets import ImageFolder

    for folder in ("a", "a-b", "a/c", "B"):
        (root / "train" / "iris" / folder).mkdir(parents=True)
        picture(7).save(root / "train" / "iris" / folder / "x.PNG")
    listing = list_images(root)
    for split in ("train", "test"):
        theirs = ImageFolder(str(root / split))
        assert [
            (str(root / name), label) for name, label in zip(*listing.splits[split], strict=True)
        ] == theirs.samples
        assert list(listing.classes) == theirs.classes


def link_up(root: Path) -> None:
    (root / "train" / "rose" / "up").symlink_to("..", target_is_directory=True)
    (root / "train" / "rose" / "self").symlink_to("self")
    (root / "train" / "rose" / "top").symlink_to(root, target_is_directory=True)
    (root / "train" / "iris" / "here").symlink_to(".", target_is_directory=True)


def test_links_that_run_in_circles_end(root: Path) -> None:
    before = list_images(root)
    link_up(root)
    assert list_images(root) == before


def test_links_to_elsewhere_are_followed(root: Path, tmp_path: Path) -> None:
    before = list_images(root)
    (root / "train" / "rose").rename(tmp_path / "elsewhere")
    (root / "train" / "rose").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert list_images(root) == before


def test_a_class_that_the_test_set_lacks_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (root / "test" / "iris").iterdir():
        path.unlink()
    (root / "test" / "iris").rmdir()
    (root / "extra").mkdir()
    with caplog.at_level(logging.WARNING):
        listing = list_images(root)
    assert listing.splits["test"][1] == [0, 0, 0, 2, 2]
    assert "test: no images of iris" in caplog.text
    assert "only train, val, test are read; passed over: extra" in caplog.text


def test_a_class_is_the_same_in_every_unicode_form(root: Path) -> None:
    (root / "train/iris").rename(root / "train/caf\u00e9")
    (root / "test/iris").rename(root / "test/cafe\u0301")
    listing = list_images(root)
    assert listing.classes == ("caf\u00e9", "daisy", "rose")
    assert listing.splits["test"][1] == [0, 1, 1, 1, 2, 2]
    assert listing.splits["test"][0][0] == "test/cafe\u0301/0.png"
    plant(root, {"train/caff": 1, "test/caff": 1})  # of which the folders come in another order
    assert list(zip(*list_images(root).splits["test"], strict=True))[:2] == [
        ("test/caff/0.png", 0),
        ("test/cafe\u0301/0.png", 1),
    ]
    (root / "train/cafe\u0301").mkdir()
    picture(1).save(root / "train/cafe\u0301/0.png")
    said = r"train has class folders of one name in several Unicode forms: 'cafe\\u0301', 'caf\\xe9'"
    with pytest.raises(MoonshineError, match=said):
        list_images(root)


def test_files_that_are_not_read_are_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = list_images(root)
    for name in ("train/rose/a.gif", "train/rose/B.GIF", "test/iris/notes", "test/iris/.hidden.gif"):
        (root / name).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert list_images(root) == before
    assert "files that are no images were passed over: 2 .gif, 1 notes; read: .bmp, .jpeg" in caplog.text


def test_a_folder_that_may_not_be_read(root: Path) -> None:
    (root / "train" / "rose").chmod(0)
    try:
        if os.access(root / "train" / "rose", os.R_OK):
            pytest.skip("needs a user whom permissions hold back")
        with pytest.raises(MoonshineError, match=naming("train/rose", "cannot be read", "Permission denied")):
            list_images(root)
    finally:
        (root / "train" / "rose").chmod(0o700)


def moved_away(root: Path) -> None:
    root.rename(root.parent / "elsewhere")


def without_train(root: Path) -> None:
    shutil.rmtree(root / "train")


def with_test_called_valid(root: Path) -> None:
    (root / "test").rename(root / "valid")


def without_either(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def empty_classes(root: Path) -> None:
    shutil.rmtree(root / "train" / "rose")
    for name in ("rose", "tulip"):
        (root / "train" / name).mkdir()


def empty_in_test(root: Path) -> None:
    shutil.rmtree(root / "test" / "rose")
    (root / "test" / "rose").mkdir()


def other_files_only(root: Path) -> None:
    empty_classes(root)
    (root / "train" / "tulip").rmdir()
    (root / "train" / "rose" / "a.heic").write_bytes(b"x")


def single_class(root: Path) -> None:
    for name in ("daisy", "iris"):
        shutil.rmtree(root / "train" / name)


def no_classes(root: Path) -> None:
    without_train(root)
    (root / "train").mkdir()


def unknown_in_test(root: Path) -> None:
    (root / "test" / "rose").rename(root / "test" / "Rose")


def unknown_in_val(root: Path) -> None:
    plant(root, {"val/lily": 1})


def flat(root: Path) -> None:
    for i in range(12):
        picture(i).save(root / "test" / f"{i}.png")


def loop_as_class(root: Path) -> None:
    (root / "train" / "all").symlink_to(".", target_is_directory=True)


def bytes_as_class(root: Path) -> None:
    os.rename(os.fsencode(root / "train" / "rose"), os.fsencode(root / "train") + b"/ros\xe9")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (moved_away, ["flowers", "no folder"]),
        (without_train, ["train/", "test", "perhaps val/"]),
        (with_test_called_valid, ["test/", "train", "valid"]),
        (without_either, ["train/", "test/", "no folders"]),
        (empty_classes, ["empty", "train/rose", "train/tulip"]),
        (empty_in_test, ["empty", "test/rose"]),
        (other_files_only, ["empty", "train/rose", ".webp"]),
        (single_class, ["train", "rose", "two"]),
        (no_classes, ["train", "no class folders"]),
        (unknown_in_test, ["test", "train/", "Rose", "daisy", "iris", "rose"]),
        (unknown_in_val, ["val", "train/", "lily"]),
        (flat, ["test", "0.png", "1.png", "2 more"]),
        (loop_as_class, ["empty", "train/all"]),
        (bytes_as_class, ["train", "UTF-8"]),
    ],
)
def test_a_mistake_is_named(mistake: Callable[[Path], None], message: list[object], root: Path) -> None:
    mistake(root)
    with pytest.raises(MoonshineError, match=naming(*message)) as error:
        list_images(root)
    assert str(error.value).startswith(str(root))
