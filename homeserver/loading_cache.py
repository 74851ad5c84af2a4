"""A bounded cache over storage that never keeps what was outdated while it was being read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LoadingCache(Generic[K, V]):
    """Values by key, the least recently used dropped beyond ``bytes_max``.

    ``load`` reads many keys at once and answers for each. Whoever learns of a change calls `forget`
    (or `put`): a value whose reading began before that is handed out, but not kept.
    """

    def __init__(
        self,
        load: Callable[[Collection[K]], Awaitable[Mapping[K, V]]],
        size_bytes: Callable[[K, V], int],
        bytes_max: int,
    ) -> None:
        self._load = load
        self._size_bytes = size_bytes
        self._bytes_max = bytes_max
        self._values: OrderedDict[K, V] = OrderedDict()
        self._loading: dict[K, object] = {}  # by key, who began to read it last
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value, if it is in memory."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    async def load(self, key: K) -> V:
        """The value, read if need be. Raises KeyError where the reader has none."""
        value = self.get(key)
        return value if value is not None else (await self.load_many((key,)))[key]

    async def load_many(self, keys: Collection[K]) -> dict[K, V]:
        """The values of all keys for which there are any, read at once as far as need be."""
        found: dict[K, V] = {}
        for key in keys:
            value = self._values.get(key)  # as `get`: hundreds are asked for at once
            if value is not None:
                self._values.move_to_end(key)
                found[key] = value
        missing = [key for key in keys if key not in found]
        if not missing:
            return found
        ticket = object()
        for key in missing:
            self._loading[key] = ticket
        try:
            read = await self._load(missing)
            for key, value in read.items():
                found[key] = value
                if self._loading.get(key) is ticket:
                    self.put(key, value)
        finally:
            for key in missing:
                if self._loading.get(key) is ticket:
                    del self._loading[key]
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value that is known to be the present one."""
        self.forget(key)
        self._values[key] = value
        self.size_bytes += self._size_bytes(key, value)
        while self.size_bytes > self._bytes_max and len(self._values) > 1:
            oldest, dropped = self._values.popitem(last=False)
            self.size_bytes -= self._size_bytes(oldest, dropped)

    def forget(self, key: K) -> None:
        """The value has changed: read it again when it is wanted."""
        self._loading.pop(key, None)
        value = self._values.pop(key, None)
        if value is not None:
            self.size_bytes -= self._size_bytes(key, value)
