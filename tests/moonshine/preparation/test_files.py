"""One picture at a time, against torchvision and against the same picture in another form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from moonshine.datasets.kind import UnreadableImages
from moonshine.preparation.files import DecodedFiles, decode_file
from tests.moonshine.datasets.flowers import picture


def decoded(path: Path, **options: Any) -> np.ndarray:
    return decode_file(path, options.get("resize", 16), options.get("crop", 12))


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    sides=st.tuples(st.integers(8, 40), st.integers(8, 40)).map(sorted),
)
def test_equal_to_torchvisions_evaluation_transform(
    size: tuple[int, int], sides: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    crop, resize = sides
    original = picture(sum(size), *size)
    path = tmp_path_factory.mktemp("one") / "a.png"
    original.save(path)
    expected = np.asarray(Compose([Resize(resize), CenterCrop(crop)])(original))
    assert np.array_equal(decode_file(path, resize, crop), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_rgb(mode: str, tmp_path: Path) -> None:
    original = picture(0)
    if mode == "I;16":
        grey = np.asarray(original.convert("L")).astype(np.uint16)
        changed = Image.fromarray(grey * 257)
        expected = original.convert("L")
    elif mode == "RGBA":
        changed, expected = original.convert("RGBA"), original
        changed.putalpha(100)
    else:
        changed = original.convert(mode)
        expected = changed
    changed.save(tmp_path / "a.png")
    expected.convert("RGB").save(tmp_path / "rgb.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == mode
    assert np.array_equal(decoded(tmp_path / "a.png"), decoded(tmp_path / "rgb.png"))


def test_a_palette_with_transparent_colours(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    changed = picture(0).convert("P")
    changed.save(tmp_path / "a.png", transparency=bytes(range(256)))
    changed.convert("RGB").save(tmp_path / "rgb.png")
    assert np.array_equal(decoded(tmp_path / "a.png"), decoded(tmp_path / "rgb.png"))
    assert [str(warning.message) for warning in recwarn] == []


def test_cmyk(tmp_path: Path) -> None:
    picture(0).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    picture(0).save(tmp_path / "rgb.png")
    with Image.open(tmp_path / "a.jpg") as saved:
        assert saved.mode == "CMYK"
    difference = decoded(tmp_path / "a.jpg").astype(int) - decoded(tmp_path / "rgb.png")
    assert abs(difference).mean() < 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_pictures_are_turned_as_their_exif_says(
    suffix: str, orientation: int, stored: Image.Transpose | None, tmp_path: Path
) -> None:
    upright = picture(0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright if stored is None else upright.transpose(stored)
    exact: dict[str, dict[str, Any]] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    turned.save(tmp_path / f"a.{suffix}", exif=exif, **exact.get(suffix, {}))
    upright.save(tmp_path / "upright.png")
    difference = decoded(tmp_path / f"a.{suffix}").astype(int) - decoded(tmp_path / "upright.png")
    assert abs(difference).max() <= (4 if suffix == "jpg" else 0)


def test_the_content_decides_what_a_file_is(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    assert np.array_equal(decoded(tmp_path / "a.png"), decoded(tmp_path / "b.jpg"))


def test_indexing_is_that_of_an_array(tmp_path: Path) -> None:
    for i in range(5):
        picture(i).save(tmp_path / f"{i}.png")
    pictures = DecodedFiles(tmp_path, [f"{i}.png" for i in range(5)], 16, 12)
    assert pictures.shape == (5, 12, 12, 3)
    found = pictures[np.array([3, 0])]
    assert found.shape == (2, 12, 12, 3)
    assert np.array_equal(found[0], decoded(tmp_path / "3.png"))
    assert np.array_equal(found[1], decoded(tmp_path / "0.png"))


def spoil(path: Path, how: str) -> None:
    picture(0, 200, 200).save(path)
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("<html>404 Not Found</html>")
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "zeroed":
        path.write_bytes(content[:40] + bytes(len(content) - 40))
    elif how == "eps":
        picture(0).save(path, format="EPS")
    elif how == "float":
        Image.fromarray(np.zeros((20, 20), np.float32)).save(path, format="TIFF")
    elif how == "32 bits":
        Image.fromarray(np.full((20, 20), 70000, np.int32)).save(path, format="TIFF")
    elif how == "thin":
        Image.new("L", (40000, 1)).resize((60000, 1)).save(path, format="PNG")
    else:
        path.unlink()
        if how == "pipe":
            os.mkfifo(path)
        elif how == "folder":
            path.mkdir()


KINDS_OF_DAMAGE = {
    "empty": "cannot identify image file 'x/a.jpg'",
    "text": "cannot identify",
    "truncated": "truncated",
    "zeroed": "",
    "eps": "cannot identify",
    "float": "floating-point",
    "32 bits": "70000",
    "thin": "60000x1 pixels would become",
    "missing": "No such file",
    "pipe": "no regular file",
    "folder": "no regular file",
}


@pytest.mark.parametrize("how", KINDS_OF_DAMAGE)
def test_a_damaged_file_is_named_with_the_reason(how: str, tmp_path: Path) -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    (tmp_path / "x").mkdir()
    spoil(tmp_path / "x" / "a.jpg", how)
    picture(1).save(tmp_path / "b.png")
    pictures = DecodedFiles(tmp_path, ["b.png", "x/a.jpg"], 4000 if how == "thin" else 16, 12)
    with pytest.raises(UnreadableImages) as error:
        pictures[np.array([0, 1])]
    assert list(error.value.failures) == ["x/a.jpg"]
    assert KINDS_OF_DAMAGE[how] in error.value.failures["x/a.jpg"]
    assert str(tmp_path / "x") not in str(error.value)
