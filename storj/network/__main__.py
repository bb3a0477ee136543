"""``python -m storj.network up`` and ``python -m storj.network farm``: the servers alone.

``storj network up`` and ``storj farm`` are the same with a person's comfort around them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from storj.exception import StorjError
from storj.network.program import run_farmer, run_network
from storj.text import LogFormatter, masked, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 1 for a failure, 2 for wrong usage."""
    options = vars(_parser().parse_args(arguments))
    run = options.pop('run')
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter('storj.network: %(message)s'))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        run(**options)
    except (StorjError, ValueError) as error:
        sys.stderr.write(f'storj.network: {printable(masked(str(error)))}\n')
        return 2 if isinstance(error, ValueError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('python -m storj.network', description=__doc__)
    commands = parser.add_subparsers(required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--host', default='127.0.0.1', help='address to listen on')
    common.add_argument('--address', help='address to announce, if it is another than the host')
    common.add_argument('--size', type=int, help='bytes that a farmer offers')
    common.add_argument('--store', choices=('disk', 'null'), default='disk')
    common.add_argument(
        '--no-sync', dest='durable', action='store_false', help='leave flushing to the system'
    )
    common.add_argument('--fault', dest='faults', action='append', default=[], metavar='SPEC')
    common.add_argument('--json', dest='as_json', action='store_true', help='say ready in JSON')

    up = commands.add_parser('up', parents=[common], help='run a bridge and farmers')
    up.add_argument('--port', type=int, default=6382, help='of the bridge; 0 for any free one')
    up.add_argument('--farmers', type=int, help='default: as many as there are, 6 in a new folder')
    up.add_argument('--drain', action='store_true', help='let farmers leave that are too many')
    up.add_argument('--new-farmer', dest='new_farmers', action='append', type=int, default=[])
    up.add_argument('--data', help='folder that keeps everything; default: a temporary one')
    up.add_argument('--database', help='SQLAlchemy URL; default: SQLite in the folder')
    up.add_argument('--protocol', choices=('mixed', '0.10', '1.2'), default='mixed')
    up.add_argument('--activation', choices=('auto', 'mail'), default='auto')
    up.add_argument('--processes', action='store_true', help='one process per farmer')
    up.add_argument('--charge', action='store_true', help="charge for MetaDisk's transfers")
    up.set_defaults(run=run_network)

    farm = commands.add_parser('farm', parents=[common], help='run one farmer')
    farm.add_argument('--path', required=True, help='folder of the farmer')
    farm.add_argument('--bridge', dest='bridge_url', required=True, metavar='URL')
    farm.add_argument('--port', type=int, default=0, help='0 for any free one')
    farm.add_argument('--protocol', choices=('0.10.0', '1.2.0'), default='1.2.0')
    farm.add_argument('--renter', dest='renters', action='append', metavar='KEY')
    farm.add_argument('--number', type=int, default=0, help='by which faults select it')
    farm.add_argument('--supervised', action='store_true', help='read commands, stop at their end')
    farm.set_defaults(run=run_farmer)
    return parser


if __name__ == '__main__':
    sys.exit(main())
