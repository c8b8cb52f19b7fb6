"""The cost of a network: parameters, multiply-accumulates, bytes, peak memory and latency; budgets for them."""
