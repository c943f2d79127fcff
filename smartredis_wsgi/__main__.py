"""Where the command line begins: ``smartredis-wsgi``, ``python -m smartredis_wsgi``."""

import sys


def main() -> None:
    """Run the command line; where its libraries are missing, say how to get them."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.exit(
            f"smartredis-wsgi: {missing.name} is not installed; "
            "pip install 'smartredis_wsgi[cli]'"
        )
    run(prog_name="smartredis-wsgi")


if __name__ == "__main__":
    main()
