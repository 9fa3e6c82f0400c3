"""The tables of the SQLite file behind `broker.net.ledger`, and how it is opened."""

from __future__ import annotations

SCHEMA = 1

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, station TEXT NOT NULL, key TEXT NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL, at REAL NOT NULL, crc INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS outbox_key ON outbox (tenant, key);
CREATE INDEX IF NOT EXISTS outbox_order ON outbox (tenant, seq);
CREATE INDEX IF NOT EXISTS outbox_measurements ON outbox (tenant, seq) WHERE kind = 'measurement';
CREATE TABLE IF NOT EXISTS facts (
    tenant TEXT NOT NULL, station TEXT NOT NULL, topic TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (tenant, station, topic, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facts_topic ON facts (tenant, topic);
CREATE TABLE IF NOT EXISTS dead (
    seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, station TEXT NOT NULL, key TEXT NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL, why TEXT NOT NULL, at REAL NOT NULL);
"""
# outbox.seq is AUTOINCREMENT: a number is never given twice, so a cursor never passes over a newer row.
# outbox_key is unique: what a station without an answer says again has the same key; the first keeps its place in the order.

JOURNAL_BYTES = 64 * 1024 * 1024  # what the write-ahead log shrinks back to after a burst
PRAGMAS = ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", f"journal_size_limit={JOURNAL_BYTES}")
