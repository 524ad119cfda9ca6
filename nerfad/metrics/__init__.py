"""What a rendered talking face is scored by. Definitions and departures: docs/metrics.md."""
