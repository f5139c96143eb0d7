"""``python -m convcore`` is the command ``convcore``."""

from convcore.cli import main

raise SystemExit(main())
