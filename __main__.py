"""``python -m hyperdreambooth VERB``."""

from .cli import main

main()
