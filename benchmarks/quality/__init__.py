"""How well each backbone ranks after an equal search: ``python -m benchmarks.quality hm``, then its ``table``."""
