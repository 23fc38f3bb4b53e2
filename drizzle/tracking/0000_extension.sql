-- TimescaleDB: hypertables, compression, retention, continuous aggregates.
CREATE EXTENSION IF NOT EXISTS timescaledb CASCADE;
