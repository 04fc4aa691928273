"""Writes golden files that are not there yet: python -m tests.packets.golden. One that is there never changes.

golden/NAME.packet  bytes of samples.packets()[NAME]
golden/values.json  what each must decode to, floats as hexadecimal
"""

import json
from pathlib import Path

from recis_core.exchange import decode
from tests.packets.samples import packets

GOLDEN = Path(__file__).parent / "golden"
VALUES = GOLDEN / "values.json"


def recorded(packet):
    """A packet's content as JSON."""
    header = packet.header
    fields = ("kind", "table", "dim", "count", "codec", "id_codec", "base", "version", "sequence")
    return {
        "header": {name: getattr(header, name) for name in fields} | {"stream": header.stream.hex()},
        "ids": packet.ids.tolist(),
        "erased": packet.erased.tolist(),
        "rows": hexadecimal(packet.rows),
        "slots": {name: hexadecimal(values) for name, values in packet.slots.items()},
    }


def hexadecimal(values):
    return [[value.hex() for value in row] for row in values.tolist()]


def write_missing():
    values = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    for name, data in packets().items():
        path = GOLDEN / f"{name}.packet"
        if not path.exists():
            path.write_bytes(data)
            values[name] = recorded(decode(data))
    VALUES.write_text(json.dumps(values, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_missing()
