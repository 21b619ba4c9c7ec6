"""The demo's scenario: three clouds, one agreement, one job. Files only; `cli.stage` plays it."""
