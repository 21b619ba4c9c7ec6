"""Where our figures go: Prometheus' text format."""
