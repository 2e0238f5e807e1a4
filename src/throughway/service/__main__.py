"""`throughwayd`: run one gateway until it is stopped."""

import asyncio
import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

import structlog

from throughway.core.errors import ThroughwayError
from throughway.service.daemon import Daemon
from throughway.service.options import parse

COLLECT_AFTER: Final = 10_000
"""New objects after which garbage in cycles is looked for. There is little, and looking for it after the usual 700 took
three hundredths of a core where a thousand sessions began each second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon. Returns the exit code: 0 when it was asked to stop, 1 with a sentence when it cannot run.

    After a failure that the log tells of it is 1 too.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        if os.geteuid() != 0:
            print("throughwayd: needs root to change the router's packet path; run it with sudo", file=sys.stderr)  # noqa: T201
            return 1
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        return 0 if asyncio.run(Daemon(options).run()) else 1
    except (ThroughwayError, OSError) as error:
        print(f"throughwayd: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
