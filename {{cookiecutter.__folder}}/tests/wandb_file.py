"""Reads the file that wandb writes offline: protocol buffers in the log format of LevelDB."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")  # checksum, length, kind
WHOLE, LAST = 1, 4


def records(path: Path) -> Iterator[Record]:
    """Give the whole records; a killed writer may have left half a one at the end."""
    data, position, parts = path.read_bytes(), 7, b""  # after the file's own header
    while position + HEADER.size <= len(data):
        if BLOCK - position % BLOCK < HEADER.size:  # no header fits: the rest of a block is empty
            position += BLOCK - position % BLOCK
            continue
        checksum, length, kind = HEADER.unpack_from(data, position)
        content = data[position + HEADER.size :][:length]
        if kind == 0 or len(content) < length:
            return
        assert zlib.crc32(bytes([kind]) + content) == checksum
        position += HEADER.size + length
        parts += content
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
