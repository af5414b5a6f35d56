"""`python3 -m deploy.frame`: makes copies of the frame and keeps them up to date. Needs Python 3.11 and git 2.38 only.

The Makefile calls it: `make copy`, `make update-copy`; and `make update` through deploy/update.sh, which runs that of
the new version. So keep `update` and its options as they are: old copies call them.

Exit codes: 0 done, or current; 1 conflicts; 2 impossible, nothing was changed; 3 with --check, a newer one is there.
"""

import argparse
import sys
import traceback
from pathlib import Path

from deploy.frame.copy import made
from deploy.frame.frame_tests import test
from deploy.frame.git import ImpossibleError
from deploy.frame.update import IMPOSSIBLE, Wish, update

ROOT = Path(__file__).parents[2]


def main() -> int:
    arguments = _parser().parse_args()
    try:
        code: int = arguments.command(arguments)
    except ImpossibleError as error:
        print(error, file=sys.stderr)
        return IMPOSSIBLE
    except OSError as error:
        print(f"{error.filename or 'nothing was changed'}: {error.strerror}", file=sys.stderr)
        return IMPOSSIBLE
    except Exception:
        traceback.print_exc()
        print("this is a fault of the updater: nothing was changed", file=sys.stderr)
        return IMPOSSIBLE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("deploy.frame", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    of_copy = commands.add_parser("copy", help="make a slim copy")
    of_copy.set_defaults(command=_copy)
    of_copy.add_argument("to")
    of_copy.add_argument("--name", default="", help="its CONSUMER_NAME")
    of_tests = commands.add_parser("test", help="run the frame's tests on this copy")
    of_tests.set_defaults(command=_test)
    of_tests.add_argument("source", metavar="FROM", help="a clone, address or bundle of the frame")
    of_tests.add_argument("--base", default="", help="the commit of the frame that it has, where that is not found")
    of_tests.add_argument("--arguments", default="", help="of pytest")
    of_update = commands.add_parser("update", help="bring a copy to another version")
    of_update.set_defaults(command=_update)
    of_update.add_argument("--copy", type=Path, required=True)
    of_update.add_argument("--frame", type=Path, default=ROOT, help="a repository of the frame")
    of_update.add_argument("--to", default="HEAD", help="the commit that it shall have")
    of_update.add_argument("--base", default="", help="the commit of the frame that it has, where that is not found")
    of_update.add_argument("--check", action="store_true", help="only say whether there is a newer one: 3")
    of_update.add_argument(
        "--markers", action="store_true", help="where there are conflicts, write them into the files"
    )
    of_update.add_argument("--back", action="store_true", help="also to an older version")
    return parser


def _copy(arguments: argparse.Namespace) -> int:
    if not arguments.to:  # TO was not given to make
        raise ImpossibleError("say where the copy shall be: make copy TO=../paid-orders NAME=…")
    print("\n".join(made(ROOT, Path(arguments.to).expanduser().resolve(), arguments.name)))
    return 0


def _test(arguments: argparse.Namespace) -> int:
    return test(ROOT, arguments.source, arguments.base, arguments.arguments)


def _update(arguments: argparse.Namespace) -> int:
    names = ("to", "base", "check", "markers", "back")
    wishes = {name: getattr(arguments, name) for name in names}
    return update(Wish(arguments.copy.expanduser().resolve(), arguments.frame.resolve(), **wishes))


if __name__ == "__main__":
    sys.exit(main())
