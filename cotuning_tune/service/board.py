"""One TensorBoard on a Unix socket that its owner alone may use: ``python -m cotuning_tune.service.board SOCKET FOLDER
PREFIX``. Run as a child of the service, which passes requests on to it."""

import os
import sys
from typing import Any


def main(path: str, folder: str, prefix: str) -> None:
    """Serve the runs below a folder at a path prefix, until killed."""
    from tensorboard import default, program
    from werkzeug import serving

    class Socket(serving.ThreadedWSGIServer, program.TensorBoardServer):  # type: ignore[misc]  # both untyped
        daemon_threads = True

        def __init__(self, application: Any, flags: Any) -> None:
            before = os.umask(0o177)
            try:
                super().__init__(f"unix://{flags.host}", 0, application)
            finally:
                os.umask(before)

        def get_url(self) -> str:
            return "unix"

        def print_serving_message(self) -> None:
            """Nothing: nobody reads it."""

    board = program.TensorBoard(plugins=default.get_plugins(), server_class=Socket)
    words = [
        "--logdir",
        folder,
        "--host",
        path,
        "--path_prefix",
        prefix,
        "--load_fast",
        "false",
        "--reload_interval",
        "5",
    ]
    board.configure(argv=["tensorboard", *words])
    board._make_server().serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:4])
