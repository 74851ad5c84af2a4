"""Databases that are used for one story after another, each of which finds them as the first one did."""

from __future__ import annotations

import asyncpg

TABLES = """
SELECT tablename FROM pg_tables
WHERE schemaname = 'public' AND tablename <> ALL('{schema_migrations, stream}')
"""
SEQUENCES = "SELECT setval(sequencename::regclass, start_value, false) FROM pg_sequences"
START = "UPDATE stream SET position = 0, batch = 0"


async def empty(url: str) -> None:
    """Undo all that was written since the schema was made; a tenth of the time of a new database.

    Tables have no pages then, and the planner knows that they are empty: so rows are found in the same order
    each time.
    """
    connection = await asyncpg.connect(url)
    try:
        tables = [row["tablename"] for row in await connection.fetch(TABLES)]
        looks = (f"SELECT '{each}' AS name WHERE EXISTS (SELECT FROM {each})" for each in tables)
        filled = await connection.fetch(" UNION ALL ".join(looks))
        await connection.execute("SET session_replication_role = replica")  # in any order
        await connection.execute("; ".join([START, *(f"DELETE FROM {row['name']}" for row in filled)]))
        await connection.execute(SEQUENCES)
        await connection.execute(f"VACUUM {', '.join([*tables, 'stream'])}")
    finally:
        await connection.close()
