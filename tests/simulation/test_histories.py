"""Random histories of the whole engine under a virtual clock. `STRETTO_SIM_HISTORIES` sets how many; a failure prints its seed.

Replay one with `STRETTO_SIM_SEED=<seed> pytest tests/simulation`.
"""

from __future__ import annotations

import dataclasses
import os

import pytest

from tests.simulation.cluster import live_cluster
from tests.simulation.history import live, scenario, summary

BATCHES = 20
HISTORIES = int(os.environ.get("STRETTO_SIM_HISTORIES", "1000"))
ONLY = os.environ.get("STRETTO_SIM_SEED")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("batch", range(1) if ONLY else range(BATCHES))
def test_histories_keep_every_promise(batch: int) -> None:
    """Order, exactly once, roll-up, logs, no stuck run, nothing left; and calm ones end as if undisturbed."""
    seeds = [int(ONLY)] if ONLY else range(batch, HISTORIES, BATCHES)
    crashes = lived = 0
    for seed in seeds:
        told = scenario(seed)
        try:
            end = live(told)
            if told.calm:
                calm = dataclasses.replace(told, deaths=(), zombies=False)
                assert summary(end.run) == summary(live(calm).run), "not the result of the undisturbed run"
        except Exception as error:
            error.add_note(f"seed {seed}: replay with STRETTO_SIM_SEED={seed} pytest tests/simulation")
            raise
        crashes += end.crashes
        lived += 1
    assert lived == len(seeds)
    assert ONLY or lived < 10 or crashes > lived / 4, f"only {crashes} crashes in {lived} histories: the chaos is not"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("batch", range(1) if ONLY else range(BATCHES))
def test_clusters_keep_every_promise(batch: int) -> None:
    """Several workers, killed and drained, with a store that goes away: every run ends, nothing runs twice, nothing is left."""
    seeds = [int(ONLY)] if ONLY else range(batch, HISTORIES // 4, BATCHES)
    killed = drained = 0
    for seed in seeds:
        try:
            cluster = live_cluster(seed)
        except Exception as error:
            error.add_note(f"seed {seed}: replay with STRETTO_SIM_SEED={seed} pytest tests/simulation")
            raise
        killed += cluster.killed
        drained += cluster.drained
    assert ONLY or len(seeds) < 10 or min(killed, drained) > len(seeds) / 2, (
        f"{killed} killed, {drained} drained: no chaos"
    )
