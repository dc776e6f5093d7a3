"""What the command lines of the benchmarks have in common."""

import argparse
import json
import os
import signal
import sys

from labkit import LabError

from . import machine


def parser(prog, text):
    """For the program `prog` of bench/. It needs a default `run`, which measures: it is called with
    the arguments, has `say` among them for what is printed unless JSON is wanted, and returns what
    JSON is to say."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=prog, description=text, formatter_class=raw)


def add_common(to):
    """Adds the options that every measurement has."""
    to.add_argument("-o", "--output", choices=("text", "json"), default="text")
    to.add_argument(
        "--build",
        type=os.path.abspath,
        default=machine.REPOSITORY / "build",
        metavar="DIR",
        help="another than build/",
    )


def at_least(least, kind):
    """For the type of an option: a number of that kind."""

    def parse(text):
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    parse.__name__ = kind.__name__  # for argparse's complaints
    return parse


def main(whole):
    """Says what is measured on and with, and measures as the command line says. A default
    `describe`, called with the arguments, says it in the place of machine.describe()."""
    args = whole.parse_args()
    args.say = _silence if args.output == "json" else _print
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"{whole.prog}: terminated."))
    try:
        facts = args.describe(args) if hasattr(args, "describe") else machine.describe()
        args.say("".join(f"{name:8} {text}\n" for name, text in facts.items()))
        result = args.run(args)
    except LabError as error:
        sys.exit(f"{whole.prog}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{whole.prog}: interrupted.")
    if args.output == "json":
        print(json.dumps({**facts, **result}, indent=2))


def _print(line):
    print(line, flush=True)


def _silence(_):
    pass
