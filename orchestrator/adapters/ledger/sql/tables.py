"""What tables does a ledger have? The schema as of the newest migration; used by migrations, statements and tests.

`events` and `bodies` are apart so that one body can be disclosed or redacted while the chain still verifies.
`jobs_live` is snapshot, read model and source of a restart in one; `body` holds canonical bytes, never a pickle.
The same metadata serves SQLite and PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, text

metadata = MetaData()
# SQLite numbers rows by itself only for INTEGER; elsewhere a sequence number needs 64 bits.
_Seq = BigInteger().with_variant(Integer(), "sqlite")
# Ids are ordered by their bytes; a PostgreSQL database may have the order of some language.
_Text = String().with_variant(String(collation="C"), "postgresql")

events = Table(
    "events",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("project", _Text, nullable=False),
    Column("job", _Text, nullable=False),
    Column("kind", _Text, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Index("events_of_job", "job", "seq"),
)
bodies = Table(
    "bodies",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
)
specs = Table(
    "specs",
    metadata,
    Column("digest", _Text, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
)
jobs_live = Table(
    "jobs_live",
    metadata,
    Column("job", _Text, primary_key=True),
    Column("project", _Text, nullable=False),
    Column("state", _Text, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("applied_seq", _Seq, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("jobs_live_only", "job", sqlite_where=text("live"), postgresql_where=text("live")),
)
counters = Table(
    "counters",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
keys = Table(
    "keys",
    metadata,
    Column("project", _Text, primary_key=True),
    Column("key", _Text, primary_key=True),
    Column("body_digest", _Text, nullable=False),
    Column("job", _Text, nullable=False),
    Column("expires", BigInteger, nullable=False),
)
presence = Table(
    "presence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)
meta = Table(
    "meta",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("value", _Text, nullable=False),
)
lead = Table(
    "lead",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("term", BigInteger, nullable=False),
    Column("holder", _Text, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("seq", _Seq, nullable=False),
)
inbox = Table(
    "inbox",
    metadata,
    Column("id", _Seq, primary_key=True),
    Column("kind", _Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("taken", BigInteger, nullable=False),
    Column("tries", BigInteger, nullable=False),
    Column("reply", LargeBinary, nullable=True),
    Column("at", BigInteger, nullable=False),
)
