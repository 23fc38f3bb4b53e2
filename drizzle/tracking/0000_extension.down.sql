-- Takes back 0000_extension.
DROP EXTENSION timescaledb;
