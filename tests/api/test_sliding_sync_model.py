"""Whatever happens in rooms and whatever a client asks for, what it knows by sliding sync is true.

Users do random things; a model client asks random lists and subscriptions, loses answers and asks again,
begins new connections; in some runs the node is killed in between. After every answer, the rooms that it asks
for are compared with what the ordinary API says. VECHE_SLIDING_SEED replays a seed.
"""

from __future__ import annotations

import pytest

from tests.api.client import Api
from tests.api.sliding_run import run, run_beside, seeds
from tests.node import Node


@pytest.mark.parametrize("seed", seeds(3, 1))
async def test_what_the_client_knows_is_true(api: Api, seed: int) -> None:
    await run(api, seed, None)


@pytest.mark.parametrize("seed", seeds(1, 1001))
async def test_what_the_client_knows_is_true_across_the_death_of_the_node(
    api: Api, node: Node, seed: int
) -> None:
    await run(api, seed, node)


@pytest.mark.parametrize("seed", seeds(2, 3001))
async def test_what_the_client_knows_is_true_after_all_happened_while_it_asked(api: Api, seed: int) -> None:
    await run_beside(api, seed)
