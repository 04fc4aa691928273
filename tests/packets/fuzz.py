"""python -m tests.packets.fuzz COUNT SEED: decode that many wrong packets in a process of bounded memory.

Prints {"errors": …, "same": …, "forged": …, "grown_kib": …} and fails on anything but a PacketError,
data that was not sent, or memory past the bound.
"""

import json
import random
import resource
import sys

import numpy as np
import torch

from recis_core.backends.errors import PacketError
from recis_core.exchange import decode
from tests.packets.mutations import LABELS, mutate, unpacked
from tests.packets.samples import packets

ROOM = 192 << 20  # of address space, past what stands when fuzzing begins
RESIDENT = 48 << 10  # KiB


def main(count, seed):
    torch.set_num_threads(1)
    good = list(packets().values())
    original = {data: decode(data) for data in good}
    content = {identity(packet) for packet in original.values()}
    bound_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source, tally = random.Random(seed), {"errors": 0, "same": 0, "forged": 0}
    for _ in range(count):
        tally[outcome(mutate(source, good), original, content)] += 1
    tally["grown_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps(tally))
    if tally["grown_kib"] > RESIDENT:
        raise SystemExit(f"memory grew by {tally['grown_kib']} KiB; at most {RESIDENT} were wanted.")


def bound_memory():
    """More address space than this raises MemoryError, or RuntimeError in torch."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))


def outcome(mutation, original, content):
    try:
        packet = decode(mutation.data)
    except PacketError:
        return "errors"
    if mutation.data in original:
        return "same"
    if not mutation.forged:
        raise SystemExit(f"damaged bytes were read as a packet: {mutation.data.hex()}")
    if mutation.changed <= LABELS and identity(packet) not in content:
        raise SystemExit(f"another label gave other content: {mutation.data.hex()}")
    check_truly_read(packet, mutation.data)
    return "forged"


def identity(packet):
    parts = [packet.ids, packet.rows, packet.erased, *packet.slots.values()]
    return tuple((tuple(part.shape), part.numpy().tobytes()) for part in parts)


def check_truly_read(packet, data):
    """What a packet that was made anew decodes to is what its bytes say, read here by other means."""
    fields = unpacked(data)
    if len(packet.ids) != fields["count"] or packet.rows.shape != (fields["count"], fields["dim"]):
        raise SystemExit(f"{tuple(packet.rows.shape)} rows, where the header says otherwise: {data.hex()}")
    read = {s[0]: np.frombuffer(data, np.uint8, s[4], s[3]) for s in fields["sections"]}
    said = {"erased": packet.erased, "ids.raw": packet.ids, "rows.fp32": packet.rows}
    said |= {f"slot.{name}": values for name, values in packet.slots.items()}
    for name, values in said.items():
        if name in read and "rows.exact" not in read and values.numpy().tobytes() != read[name].tobytes():
            raise SystemExit(f"section {name} was not read as it is: {data.hex()}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
