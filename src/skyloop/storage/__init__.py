"""Where runs are kept and read back: JSON lines, msgpack files, Tiled and databroker."""
