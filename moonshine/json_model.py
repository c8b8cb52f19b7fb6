"""Base class of the typed JSON files: one model per kind of file, which reads, checks and writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from moonshine.errors import MoonshineError, shorten
from moonshine.files import unreadable, write_json


class JsonModel(BaseModel):
    """Content of a JSON file. Values are not converted; keys that a newer version adds are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)
    only_given: ClassVar[bool] = False
    """Whether a key that was never set is left out of the file instead of written with its default."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file; ``MoonshineError`` names it, the first wrong key, the value and what is allowed."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise unreadable(path, error) from None
        except ValidationError as error:
            raise MoonshineError(f"{path}: damaged, {first_problem(error)}") from None

    def content(self) -> dict[str, Any]:
        """Return the values as JSON holds them, in the order of the fields."""
        return self.model_dump(mode="json", exclude_unset=self.only_given)

    def write(self, path: Path) -> None:
        """Write the file atomically, with sorted keys: equal content gives equal bytes."""
        write_json(path, self.content())


def first_problem(error: ValidationError) -> str:
    """Return the first of pydantic's complaints: the key, the value found and what is allowed."""
    item = error.errors(include_url=False)[0]
    if item["type"] == "json_invalid":
        return f"not readable as JSON ({item['ctx']['error']})"
    key, found = ".".join(map(str, item["loc"])) or "content", repr(item["input"])
    message = item["msg"][0].lower() + item["msg"][1:]
    if item["type"] == "missing":
        return f"or of another version: {key}: missing"
    return f"or of another version: {key}: found {shorten(found)}; {message}"
