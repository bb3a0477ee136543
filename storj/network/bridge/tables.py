"""The tables of the bridge's database.

Times are milliseconds since 1970. Secrets that a client sends back (links, bridge tokens) are kept
as their SHA-256 only.

::

    User --< Key, Nonce, Volume
      |--< Bucket --< Entry (file) --- Frame --< Pointer . . shard hash
      |       `--< Token                                         .
      `--< Frame                              Contact --< Contract --< Challenge
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: Seconds of the bridge's running after which an upload counts as given up.
UPLOAD_LIFE = 90 * 24 * 3600
#: Revision of the tables below: the number of the last module in ``migrations.versions``.
REVISION = '12'


class Base(DeclarativeBase):
    """What all tables share."""

    # SQLAlchemy 2.1 makes a DOUBLE of a float, 2.0 a FLOAT: named here, so that the tables are
    # the same with both.
    type_annotation_map = {int: BigInteger(), float: Double()}


def _partial(name: str, condition: str, *columns: str) -> Index:
    """Return an index of the rows that a condition holds for; statements must have it literally."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


class User(Base):
    """An account."""

    __tablename__ = 'users'

    email: Mapped[str] = mapped_column(String(320), primary_key=True)
    password: Mapped[str] = mapped_column(String(200))
    # What a reset before bridge 7.5 asks for; counts when the confirmation repeats it.
    pending_password: Mapped[str | None] = mapped_column(String(200))
    created: Mapped[int]
    activated: Mapped[bool]
    # Registered by itself; quotas do not apply to accounts of the bridge's operator.
    free_tier: Mapped[bool] = mapped_column(default=True, server_default=true())
    uuid: Mapped[str] = mapped_column(String(36))
    referral_partner: Mapped[str | None] = mapped_column(String(255))
    activator: Mapped[str | None] = mapped_column(String(64), index=True)
    deactivator: Mapped[str | None] = mapped_column(String(64), index=True)
    resetter: Mapped[str | None] = mapped_column(String(64), index=True)


class Volume(Base):
    """Bytes that an account has uploaded or downloaded since the beginning of a period."""

    __tablename__ = 'volumes'

    user: Mapped[str] = mapped_column(ForeignKey('users.email'), primary_key=True)
    direction: Mapped[str] = mapped_column(String(8), primary_key=True)
    window: Mapped[int] = mapped_column(primary_key=True)
    begun: Mapped[int]
    bytes: Mapped[int]


class Key(Base):
    """A public key of a user; looked up as text, in the case as registered (section 2.2)."""

    __tablename__ = 'keys'

    key: Mapped[str] = mapped_column(String(130), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey('users.email'), index=True)
    # Clients name their keys, from bridge 0.7 on (section 3.3).
    label: Mapped[str] = mapped_column(Text)
    created: Mapped[int]


class Nonce(Base):
    """A nonce that a key has signed for a user; kept as long as the account."""

    __tablename__ = 'nonces'

    user: Mapped[str] = mapped_column(ForeignKey('users.email'), primary_key=True)
    nonce: Mapped[str] = mapped_column(String(64), primary_key=True)
    created: Mapped[int] = mapped_column(index=True)


class Bucket(Base):
    """A container of files."""

    __tablename__ = 'buckets'
    __table_args__ = (
        UniqueConstraint('user', 'name'),
        Index('buckets_by_date', 'user', 'created'),
    )

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey('users.email'))
    name: Mapped[str] = mapped_column(String(260))
    created: Mapped[int]
    public_keys: Mapped[list[str]] = mapped_column(JSON)
    public_permissions: Mapped[list[str]] = mapped_column(JSON)
    # Of a public bucket only, whose owner publishes the bucket key (section 6.5).
    encryption_key: Mapped[str] = mapped_column(Text)


class Token(Base):
    """A one-time right to a bucket."""

    __tablename__ = 'tokens'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    bucket: Mapped[str] = mapped_column(ForeignKey('buckets.id'), index=True)
    operation: Mapped[str] = mapped_column(String(4))
    expires: Mapped[int] = mapped_column(index=True)


class Frame(Base):
    """The shards of a file, while it is uploaded and after."""

    __tablename__ = 'frames'
    __table_args__ = (Index('frames_by_date', 'user', 'created'),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey('users.email'))
    created: Mapped[int]
    locked: Mapped[bool] = mapped_column(index=True)
    # Seconds of the bridge's running until an upload counts as given up: by no wall clock, which
    # may be set by years during an upload.
    waits: Mapped[int] = mapped_column(server_default=text(str(UPLOAD_LIFE)))
    size: Mapped[int]
    storage_size: Mapped[int]


class Pointer(Base):
    """One shard of a frame."""

    __tablename__ = 'pointers'
    __table_args__ = (UniqueConstraint('frame', 'position'),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    frame: Mapped[str] = mapped_column(ForeignKey('frames.id'))
    position: Mapped[int]
    shard_hash: Mapped[str] = mapped_column(String(40), index=True)
    size: Mapped[int]
    parity: Mapped[bool]


class Entry(Base):
    """A file: a frame with a name in a bucket."""

    __tablename__ = 'entries'
    __table_args__ = (Index('entries_by_date', 'bucket', 'created'),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    bucket: Mapped[str] = mapped_column(ForeignKey('buckets.id'))
    frame: Mapped[str] = mapped_column(ForeignKey('frames.id'), unique=True)
    name: Mapped[str | None] = mapped_column(Text)
    mimetype: Mapped[str] = mapped_column(String(255))
    created: Mapped[int]
    renewal: Mapped[int]
    hmac_type: Mapped[str | None] = mapped_column(String(9))
    hmac_value: Mapped[str | None] = mapped_column(String(128))
    erasure: Mapped[str | None] = mapped_column(String(11))
    index: Mapped[str | None] = mapped_column(String(64), unique=True)


class Contact(Base):
    """A farmer's address card, and how it has behaved."""

    __tablename__ = 'contacts'

    node_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    address: Mapped[str] = mapped_column(String(255))
    # Announced from the bridge's own machine, so that the address may mean it.
    local: Mapped[bool] = mapped_column(server_default=false())
    port: Mapped[int]
    protocol: Mapped[str] = mapped_column(String(80))
    user_agent: Mapped[str] = mapped_column(String(64))
    created: Mapped[int] = mapped_column(index=True)
    last_seen: Mapped[int] = mapped_column(index=True)
    space_available: Mapped[bool]
    # Bytes; known of farmers that say so, which is an addition of ours to the protocol.
    space_offered: Mapped[int | None]
    response_time: Mapped[float | None]
    last_timeout: Mapped[int | None]
    timeout_rate: Mapped[float]
    last_contract_sent: Mapped[int | None]
    reputation: Mapped[int]
    # It has not answered for so long that its copies count as lost; how often it came back from
    # that; and whether its copies are still to be put up for audits since.
    lost: Mapped[bool] = mapped_column(server_default=false())
    returns: Mapped[int] = mapped_column(server_default=text('0'))
    unchecked: Mapped[bool] = mapped_column(server_default=false())
    # Milliseconds of bridges' running without an answer, as they will be at the next look for lost
    # farmers: by no wall clock, and the time in which no bridge ran does not count.
    silent: Mapped[int] = mapped_column(server_default=text('0'))
    # When it asked to leave; it asks every second.
    leaving: Mapped[int | None]
    audits_passed: Mapped[int] = mapped_column(server_default=text('0'))
    audits_failed: Mapped[int] = mapped_column(server_default=text('0'))


class Contract(Base):
    """What one farmer has agreed to keep; all files with this shard share the record.

    ``stored`` is true once a party to the transfer has reported it: the client or the farmer in an
    exchange report, or the farmer when it gave a token for the download. ``verified`` is the
    number of its farmer's returns when the copy was last known to be good (see ``copies``).
    """

    __tablename__ = 'contracts'

    shard_hash: Mapped[str] = mapped_column(String(40), primary_key=True)
    node_id: Mapped[str] = mapped_column(ForeignKey('contacts.node_id'), primary_key=True)
    data_size: Mapped[int]
    store_begin: Mapped[int]
    store_end: Mapped[int]
    # The bottom row of the audit tree, padded (section 5.4).
    tree: Mapped[list[str]] = mapped_column(JSON)
    # The contract as both sides have signed it; RENEW signs it again (section 7.5).
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Whether the farmer has the audit leaves; ALLOC of core 7 and 8 does not carry them.
    auditable: Mapped[bool]
    stored: Mapped[bool]
    mirror: Mapped[bool]
    failed: Mapped[bool]
    download_count: Mapped[int]
    # Of the token that the farmer gave out first, its fingerprint; later ones are rows.
    token: Mapped[str | None] = mapped_column(String(64))
    # Who asked for it first; nobody for the bridge's own copies.
    account: Mapped[str | None] = mapped_column(String(320))
    verified: Mapped[int] = mapped_column(server_default=text('0'))
    next_audit: Mapped[int]
    next_renewal: Mapped[int] = mapped_column(server_default=text('0'))

    __table_args__ = (
        Index('contracts_by_audit', 'node_id', 'next_audit'),
        Index('contracts_by_renewal', 'node_id', 'next_renewal'),
        # Copies that farmers have not confirmed yet, and contracts that nobody waits for: few.
        _partial('contracts_awaited', 'verified = -1', 'account', 'store_begin', 'data_size'),
        _partial('contracts_given_up', 'next_renewal = 0 AND verified = -1', 'shard_hash'),
    )


class Challenge(Base):
    """One audit of a contract: open, or with its result."""

    __tablename__ = 'challenges'
    __table_args__ = (
        ForeignKeyConstraint(
            ['shard_hash', 'node_id'],
            ['contracts.shard_hash', 'contracts.node_id'],
            ondelete='CASCADE',
        ),
    )

    shard_hash: Mapped[str] = mapped_column(String(40), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    challenge: Mapped[str] = mapped_column(String(64))
    # None until it is sent. A challenge is sent once: its answer could be kept (section 5.2).
    sent: Mapped[int | None]
    passed: Mapped[bool | None]


class FarmerToken(Base):
    """A token that a farmer gave out; it tells which exchange a report is about.

    That of a new contract is kept with the contract.
    """

    __tablename__ = 'farmer_tokens'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    shard_hash: Mapped[str] = mapped_column(String(40))
    node_id: Mapped[str] = mapped_column(String(40))
    created: Mapped[int] = mapped_column(index=True)


class WorkChallenge(Base):
    """A proof of work asked of a farmer that wants to register."""

    __tablename__ = 'work_challenges'

    challenge: Mapped[str] = mapped_column(String(64), primary_key=True)
    target: Mapped[str] = mapped_column(String(64))
    expires: Mapped[int] = mapped_column(index=True)


class Lease(Base):
    """A round that one bridge does at a time, and until when (see ``leases``)."""

    __tablename__ = 'leases'

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(16))
    until: Mapped[int]


class Counter(Base):
    """How often something was done until the end of a window (see ``quotas``)."""

    __tablename__ = 'counters'

    #: SHA-256 of what is counted.
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    ends: Mapped[int] = mapped_column(index=True)
    used: Mapped[int]


class Secret(Base):
    """A secret that all bridges of the database share."""

    __tablename__ = 'secrets'

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Measure(Base):
    """What one bridge has counted for all of them (see ``totals``)."""

    __tablename__ = 'measures'

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSON)


class Repair(Base):
    """A shard with too few copies, until it has enough (see ``backlog``)."""

    __tablename__ = 'repairs'
    __table_args__ = (Index('repairs_by_urgency', 'copies', 'due'),)

    shard_hash: Mapped[str] = mapped_column(String(40), primary_key=True)
    copies: Mapped[int]
    # When it may be claimed, and milliseconds until the try after that.
    due: Mapped[int]
    pause: Mapped[int]
    # Nobody was willing to make a copy.
    refused: Mapped[bool]
    # The bridge that works on it, and whether a copy was lost meanwhile.
    owner: Mapped[str | None] = mapped_column(String(16))
    again: Mapped[bool]


class MetaDiskBalance(Base):
    """Bytes that an access token of MetaDisk may still transfer."""

    __tablename__ = 'metadisk_balances'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int]


class MetaDiskMovement(Base):
    """A change of a balance."""

    __tablename__ = 'metadisk_movements'

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, 'sqlite'), primary_key=True)
    # Seconds since 1970.
    time: Mapped[float]
    token: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    reason: Mapped[str] = mapped_column(String(64))


class MetaDiskCode(Base):
    """A promotional code that a token has used."""

    __tablename__ = 'metadisk_redeemed'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)


class MetaDiskFile(Base):
    """A file of MetaDisk; the SHA-256 of its ciphertext names it."""

    __tablename__ = 'metadisk_files'

    filehash: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    size: Mapped[int]
    # Seconds since 1970.
    stored: Mapped[int]
    # The entry in the node's bucket; an empty file has none, as the network stores no empty shard.
    entry: Mapped[str | None] = mapped_column(String(24))
    # Of all shards but the last; kept so that a later release may choose another size.
    shard_size: Mapped[int]


class MetaDiskTraffic(Base):
    """Bytes that MetaDisk moved in a month (``YYYY-MM``, UTC)."""

    __tablename__ = 'metadisk_traffic'

    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    incoming: Mapped[int]
    outgoing: Mapped[int]


class MetaDiskUsage(Base):
    """The bytes of all files of MetaDisk, in a single row: nobody sums them up."""

    __tablename__ = 'metadisk_usage'

    name: Mapped[str] = mapped_column(String(8), primary_key=True)
    bytes: Mapped[int]


class SchemaVersion(Base):
    """The revision of the schema, where Alembic keeps it."""

    __tablename__ = 'alembic_version'

    version_num: Mapped[str] = mapped_column(String(32), primary_key=True)
