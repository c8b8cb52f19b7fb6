"""``make test-slurm`` leaves alone what is not its own, before it installs anything."""

from __future__ import annotations

import os

import pytest

from tests.messages import naming
from tests.slurm import run
from tests.slurm.cluster import Refused


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE", raising=False)
    monkeypatch.setattr(run, "configurations", list)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_a_machine_of_a_cluster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "configurations", lambda: ["/etc/slurm/slurm.conf"])
    with pytest.raises(Refused, match=naming("/etc/slurm/slurm.conf", "cluster")):
        run.refuse()
    monkeypatch.setenv("FORCE", "1")
    run.refuse()


def test_only_root_may_install_where_nobody_forces_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run.refuse()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refused, match=naming("root", "FORCE=1")):
        run.refuse()


def test_slurm_may_be_told_where_its_configuration_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("SLURM_CONF", "/somewhere/slurm.conf")
    assert "SLURM_CONF=/somewhere/slurm.conf" in run.configurations()
