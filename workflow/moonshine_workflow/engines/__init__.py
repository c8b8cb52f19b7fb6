"""The two engines: their state, locks, the handover between them, and restamping."""
