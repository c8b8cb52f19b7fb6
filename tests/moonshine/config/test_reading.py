"""params.yaml as text: whatever it holds, it is read in no time, or refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from moonshine import MoonshineError
from moonshine.config import load_study
from moonshine.config.reading import read_yaml
from tests.messages import naming

DIGITS = Path(__file__).parents[3] / "studies" / "digits.yaml"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize("path", DIGITS.parent.glob("*.yaml"), ids=lambda path: path.stem)
def test_shipped_studies_are_read_as_they_are(path: Path) -> None:
    assert read_yaml(path) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 2024-99-99", ["line 1", "2024-99-99", "timestamp"]),
        ("\na: !!int abc", ["line 2", "abc", "int"]),
        ("a: !!float abc", ["abc", "float"]),
        ("a: !!bool abc", ["abc", "bool"]),
        ("a: !!timestamp abc", ["abc", "timestamp"]),
        ("a: !!binary é", ["YAML"]),
        (f"a: {'9' * 5000}", ["9" * 70 + "...", "300 digits"]),
        (f"a: 0x{'9' * 5000}", ["0x" + "9" * 68 + "...", "300 digits"]),
        ("a: 1\n? [b]\n: 1", ["line 2", "sequence", "key"]),
        ("? {b: 1}\n: 1", ["line 1", "mapping", "key"]),
        (f"a: {'[' * 1500}", ["nested too deeply", "50 levels"]),
        (f"a: {'[' * 60}{']' * 60}", ["51 levels", "100,000", "50"]),
        (f"a: {'{b: ' * 900}{'}' * 900}", ["nested too deeply"]),
        ("a: &a [*a]", ["line 1", "itself"]),
        ("a: &a {<<: *a}", ["line 1", "itself"]),
        (BOMB, ["597,871 values", "100,000"]),
        (BOMB.replace("[", "{<<: [").replace("]", "]}"), ["values"]),
        ("a: {b: 1, b: 2}", ["b", "twice"]),
        ("a: {<<: {}, <<: {}}", ["<<", "twice"]),
        ("a: {<<: 3}", ["YAML", "mapping"]),
        ("a: !foo b", ["YAML", "!foo"]),
        ("a: \x00", ["YAML"]),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, said: list[object], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MoonshineError, match=naming(path, *said)) as error:
        read_yaml(path)

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
        read_yaml(tmp_path)
