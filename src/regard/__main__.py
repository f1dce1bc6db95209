"""Allow `python -m regard`."""

from regard.cli.main import run

run()
