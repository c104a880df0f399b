"""Small helpers that know nothing of recommendation: seeds, files, hashes, ordering, chunks, search domains."""

from mmgraph_robust.utils.arguments import Checked, Described, is_whole
from mmgraph_robust.utils.chunk import chunks
from mmgraph_robust.utils.dense import matmul
from mmgraph_robust.utils.devices import device_name, is_on
from mmgraph_robust.utils.domains import Categorical, Choice, Domain, Float, Int
from mmgraph_robust.utils.files import atomic_write, check_out, read_json, sha256_file, write_json, write_text
from mmgraph_robust.utils.finite import bad_gradient
from mmgraph_robust.utils.hashing import hash_json, hash_tensors
from mmgraph_robust.utils.locks import claim
from mmgraph_robust.utils.memory import keep_freed_memory, peak_memory, reset_peak_memory
from mmgraph_robust.utils.modes import evaluating, keeping_modes
from mmgraph_robust.utils.packing import pack, unpack
from mmgraph_robust.utils.plugins import find_class, load_plugin, plugins, room_classes
from mmgraph_robust.utils.rows import row_lengths, unit_rows
from mmgraph_robust.utils.seed import child_generator
from mmgraph_robust.utils.signals import Terminated, terminable, uninterrupted
from mmgraph_robust.utils.topk import stable_topk

__all__ = [
    "Categorical",
    "Checked",
    "Choice",
    "Described",
    "Domain",
    "Float",
    "Int",
    "Terminated",
    "atomic_write",
    "bad_gradient",
    "check_out",
    "child_generator",
    "chunks",
    "claim",
    "device_name",
    "evaluating",
    "find_class",
    "hash_json",
    "hash_tensors",
    "is_on",
    "is_whole",
    "keep_freed_memory",
    "keeping_modes",
    "load_plugin",
    "matmul",
    "pack",
    "peak_memory",
    "plugins",
    "read_json",
    "reset_peak_memory",
    "room_classes",
    "row_lengths",
    "sha256_file",
    "stable_topk",
    "terminable",
    "uninterrupted",
    "unit_rows",
    "unpack",
    "write_json",
    "write_text",
]
