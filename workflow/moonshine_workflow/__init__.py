"""The pipeline around the library: the graph, its stages, and everything that the two engines share."""

from importlib import import_module

try:
    import_module("moonshine.errors")
except ModuleNotFoundError as error:  # `python -m` looks for modules beside params.yaml first
    raise SystemExit(
        f"error: {error}: a module of yours called moonshine hides the library; allowed: any other name"
    ) from None
