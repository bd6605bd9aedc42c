"""What `log_utils` logs, and where to."""

import logging

log_level: int = logging.DEBUG
"""From which level on."""

log_file_name: str | None = None
"""A file that gets the messages, too."""
