"""Make a token that forces a request to be recorded closely.

Send it as the header X-Force-Memory-Profile. The service must have the same token_secret. A token is
good for every request of the route until it expires; a header without a good token does nothing.
"""

from __future__ import annotations

import argparse
import sys
import time

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.add_argument(
        "--route",
        default="",
        metavar="ROUTE",
        help='only requests of this route, such as "/orders/<int:order_id>/" (default: any)',
    )
    parser.add_argument(
        "--minutes", type=float, default=15, help="how long it is good for (default: 15)"
    )
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the token."""
    from fastalloc import config, tokens

    if not 0 < args.minutes <= tokens.MAX_MINUTES:
        raise CommandError(f"--minutes: {args.minutes:g} is not between 0 and {tokens.MAX_MINUTES}")
    if len(args.route) > 250:
        raise CommandError("--route: longer than 250 characters")
    try:
        secret = config.resolve({}, {}).token_secret
    except config.ConfigError as error:
        raise CommandError(str(error)) from None
    if not secret:
        raise CommandError(
            "there is no secret to sign with: set FASTALLOC_TOKEN_SECRET as it is set in the service"
        )
    token = tokens.make(secret, args.route, args.minutes)
    if args.json:
        expires = int(time.time() + args.minutes * 60)
        output.print_json({"token": token, "route": args.route, "expires": expires})
    else:
        sys.stdout.write(token + "\n")
    return 0
