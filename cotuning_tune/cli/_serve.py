"""The command that starts the service."""

import argparse
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of ``serve``."""
    parser = commands.add_parser("serve", help="take searches from several people, queue them, start and show them")
    parser.add_argument("--config", metavar="FILE", help="settings: storage, data_roots, backends (docs/service.md)")
    parser.add_argument("--root", metavar="FOLDER", help="the service's own folder (~/.cotuning_tune/service)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8585)
    parser.add_argument("--socket", default="", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("--certificate", default="", metavar="FILE", help="TLS certificate (PEM)")
    parser.add_argument("--key", default="", metavar="FILE", help="TLS key (PEM)")
    parser.add_argument("--behind-proxy", action="store_true", help="a proxy on this machine ends TLS in front of it")
    parser.add_argument(
        "--migrate", action="store_true", help="bring a PostgreSQL database of an earlier version up to date"
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="take in the runs of the storage that the database lacks"
    )
    parser.add_argument(
        "--link",
        nargs="?",
        const="",
        metavar="USER",
        help="print a one-time link beside the service that runs, and end",
    )
    parser.set_defaults(call=_serve)


def _serve(options: argparse.Namespace) -> int:
    from cotuning_tune.service.serve import Door, serve, signed_link
    from cotuning_tune.service.settings import read_settings

    root = Path(options.root).expanduser().absolute() if options.root else None
    settings = read_settings(Path(options.config) if options.config else None, root)
    door = Door(
        host=options.host,
        port=options.port,
        socket=options.socket,
        certificate=options.certificate,
        key=options.key,
        proxy=options.behind_proxy,
    )
    if options.link is not None:
        print(signed_link(settings, door, options.link))
        return 0
    return serve(settings, door, lambda line: print(line, flush=True), migrate=options.migrate, restore=options.rebuild)
