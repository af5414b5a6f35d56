"""Says when Python was built without optimization: the worker takes a sixth more CPU there (bench/README.md).

The flags of the build tell. A distribution's own Python, in /usr, is optimized, though its flags do not show it.
"""

import sys
import sysconfig


def note(prefix: str, configured_with: str) -> str:
    """What to say of an interpreter that was built so; '' where it is well."""
    if prefix == "/usr" or "--enable-optimizations" in configured_with:
        return ""
    return (
        f"{prefix}: this Python was built without --enable-optimizations; it runs, but takes a sixth more CPU."
        " The images python:3.x and the packages of Debian and Ubuntu are optimized."
    )


if __name__ == "__main__":
    if text := note(sys.base_prefix, str(sysconfig.get_config_var("CONFIG_ARGS"))):
        print(f"note: {text}", file=sys.stderr)
