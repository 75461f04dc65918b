"""Between a visitor and an engine: queue, limits, cache, storage, logs, guards."""
