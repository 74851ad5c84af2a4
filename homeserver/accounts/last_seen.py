"""When and from where devices were last heard of: kept in memory, written in batches."""

from __future__ import annotations

import asyncio

from homeserver.storage.connection import Pool
from homeserver.storage.devices import Sighting, write_sightings

INTERVAL_S = 120.0
SIGHTINGS_MAX = 50_000  # between two writes; beyond, new ones are not noted
BATCH = 2_000
ADDRESS_LENGTH_MAX = 64
AGENT_LENGTH_MAX = 256


class LastSeen:
    """What was seen of devices since the last write.

    "May be a few minutes out of date, for efficiency reasons": definitions/client_device.yaml.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sightings: dict[int, Sighting] = {}

    def note(self, device_nid: int, seen_ms: int, address: str, agent: str) -> None:
        """A device made a request."""
        if device_nid in self._sightings or len(self._sightings) < SIGHTINGS_MAX:
            address, agent = _storable(address, ADDRESS_LENGTH_MAX), _storable(agent, AGENT_LENGTH_MAX)
            self._sightings[device_nid] = Sighting(device_nid, seen_ms, address, agent)

    def of(self, device_nid: int) -> Sighting | None:
        """What is not written yet of a device."""
        return self._sightings.get(device_nid)

    async def run(self) -> None:
        """Write every few minutes; for the supervisor."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is noted; also called when the node stops. What cannot be written is kept for later."""
        sightings = sorted(self._sightings.values(), key=lambda sighting: sighting.device_nid)
        for start in range(0, len(sightings), BATCH):
            batch = sightings[start : start + BATCH]
            await write_sightings(self._pool, batch)
            for sighting in batch:
                if self._sightings.get(sighting.device_nid) is sighting:
                    del self._sightings[sighting.device_nid]


def _storable(text: str, length_max: int) -> str:
    """Text from a header, without what the database cannot hold: NUL, and bytes that are no UTF-8."""
    return text[:length_max].replace("\x00", "").encode(errors="replace").decode()
