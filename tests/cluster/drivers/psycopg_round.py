"""What applications do with psycopg 3: parameters, types, streamed rows, COPY, pipelines,
transactions, errors. Called by drivers.rs with a connection string."""

import datetime
import decimal
import sys
import uuid

import psycopg

dsn = sys.argv[1]
with psycopg.connect(dsn, autocommit=True) as connection:
    connection.execute(
        "CREATE TABLE drivers_psycopg (id uuid PRIMARY KEY, number numeric, happened timestamptz, tags text[], doc jsonb)"
    )
    connection.execute("SELECT create_distributed_table('drivers_psycopg', 'id')")

ids = [uuid.UUID(int=n) for n in range(1, 201)]
now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
with psycopg.connect(dsn) as connection:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO drivers_psycopg VALUES (%s, %s, %s, %s, %s)",
            [(one, decimal.Decimal("1.50"), now, ["a", "b"], psycopg.types.json.Jsonb({"n": 1})) for one in ids[:100]],
        )
        with cursor.copy("COPY drivers_psycopg (id, number) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["uuid", "numeric"])
            for one in ids[100:]:
                copy.write_row((one, decimal.Decimal(2)))
    connection.commit()

    for repeat in range(10):  # psycopg prepares a statement it sees often
        row = connection.execute("SELECT number, happened, tags, doc FROM drivers_psycopg WHERE id = %s", (ids[5],)).fetchone()
        assert row == (decimal.Decimal("1.50"), now, ["a", "b"], {"n": 1}), row
    assert connection.execute("SELECT count(*), sum(number) FROM drivers_psycopg").fetchone() == (200, decimal.Decimal("350.00"))
    assert connection.execute("SELECT id FROM drivers_psycopg ORDER BY id LIMIT 3").fetchall() == [(one,) for one in ids[:3]]

    with connection.cursor() as cursor:  # rows one by one, as they come
        assert [row[0] for row in cursor.stream("SELECT id FROM drivers_psycopg ORDER BY id")] == ids
    connection.commit()

    try:
        with connection.transaction():
            connection.execute("UPDATE drivers_psycopg SET number = 0 WHERE id = ANY(%s)", (ids[:10],))
            raise psycopg.Rollback()
    except psycopg.Rollback:
        pass
    assert connection.execute("SELECT sum(number) FROM drivers_psycopg").fetchone()[0] == decimal.Decimal("350.00")
    connection.commit()

    try:
        connection.execute("INSERT INTO drivers_psycopg (id) VALUES (%s)", (ids[0],))
        raise AssertionError("a duplicate key is refused")
    except psycopg.errors.UniqueViolation as error:
        assert "drivers_psycopg_pkey" in str(error), error
    connection.rollback()

    with connection.pipeline():
        results = [connection.execute("SELECT number FROM drivers_psycopg WHERE id = %s", (one,)) for one in ids[95:105]]
    numbers = [result.fetchone()[0] for result in results]
    assert numbers == [decimal.Decimal("1.50")] * 5 + [decimal.Decimal(2)] * 5, numbers

print("psycopg is content")
