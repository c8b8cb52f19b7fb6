"""params.yaml as text: whatever it holds, it is read in no time, or refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from moonshine import MoonshineError
from moonshine.config import load_study
from moonshine.config.reading import read
from tests.messages import naming

DIGITS = Path(__file__).parents[3] / "studies" / "digits.yaml"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize("path", DIGITS.parent.glob("*.yaml"), ids=lambda path: path.stem)
def test_shipped_studies_are_read_as_they_are(path: Path) -> None:
    assert read(path) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 2024-99-99", ["line 1: found 2024-99-99", "timestamp", "text in quotes"]),
        ("\na: !!int abc", ["line 2: found abc", "as int"]),
        ("a: !!float abc", ["found abc", "as float"]),
        ("a: !!bool abc", ["found abc", "as bool"]),
        ("a: !!timestamp abc", ["found abc", "as timestamp"]),
        ("a: !!binary é", ["not readable as YAML"]),
        (f"a: {'9' * 5000}", [f"found {'9' * 70}...", "up to 300 digits"]),
        (f"a: 0x{'9' * 5000}", ["found 0x999", "up to 300 digits"]),
        ("a: 1\n? [b]\n: 1", ["line 2: found a sequence as a key"]),
        ("? {b: 1}\n: 1", ["line 1: found a mapping as a key"]),
        (f"a: {'[' * 1500}", ["nested too deeply", "50 levels"]),
        (f"a: {'[' * 60}{']' * 60}", ["51 levels deep", "allowed: 100,000 and 50"]),
        (f"a: {'{b: ' * 900}{'}' * 900}", ["nested too deeply"]),
        ("a: &a [*a]", ["line 1: holds itself"]),
        ("a: &a {<<: *a}", ["line 1: holds itself"]),
        (BOMB, ["597,871 values", "allowed: 100,000"]),
        (BOMB.replace("[", "{<<: [").replace("]", "]}"), ["values"]),
        ("a: {b: 1, b: 2}", ["the key 'b' stands twice"]),
        ("a: {<<: {}, <<: {}}", ["the key '<<' stands twice"]),
        ("a: {<<: 3}", ["not readable as YAML", "expected a mapping"]),
        ("a: !foo b", ["not readable as YAML", "!foo"]),
        ("a: \x00", ["not readable as YAML"]),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MoonshineError) as error:
        read(path)
    for words in [str(path), *said]:
        assert words in str(error.value)
    assert len(str(error.value)) < 500


def test_merge_keys_count_and_what_stands_beside_them_wins(tmp_path: Path) -> None:
    """As DVC reads them, in whatever order the mappings are made."""
    path = tmp_path / "params.yaml"
    text = DIGITS.read_text().replace(
        'GN: {block: "G(N)"}',
        'GN: &it {<<: {block: "B(4)"}, block: "G(N)"}\n  own: {<<: *it, network: wrn-10-1}',
    )
    path.write_text(text)
    study = load_study(path)
    assert (study.students["GN"].block, study.students["GN"].network) == ("G(N)", None)
    assert (study.students["own"].block, study.students["own"].network) == ("G(N)", "wrn-10-1")


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming(tmp_path, "cannot be read")):
        read(tmp_path)
