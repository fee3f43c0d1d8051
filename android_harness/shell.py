"""The shell text of a command on a device: in a folder, ended after a while, its exit code true.

Not ``timeout``: toybox 0.8.9's answers 127, now and then, for a command that ends well and at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from signal import SIGALRM, SIGKILL

TIMED_OUT = 128 + SIGALRM
"""Exit code of a command that was ended because it took too long."""

_GUARDED = """\
{{ {place}exec {command}; }} & pid=$!
{{ sleep {limit} && kill -{alarm} $pid && sleep {grace} && kill -{kill} $pid; }} \
< /dev/null > /dev/null 2>&1 & guard=$!
wait $pid; code=$?
{{ pkill -P $guard; kill $guard; wait $guard; }} 2> /dev/null
exit $code
"""
"""The second process is a guard that ends the first, and is ended with its ``sleep`` before that.
Signals have numbers: shells differ in the names they know."""


def guarded(
    words: Sequence[str], *, limit_s: float, grace_s: float, folder: str | None = None
) -> str:
    """A POSIX shell's program that runs ``words``, each as it is, and ends as they do.

    After ``limit_s`` they get SIGALRM, which ends it with ``TIMED_OUT``; where they do not heed it,
    SIGKILL ``grace_s`` later.
    """
    return _GUARDED.format(
        place=f"cd {shlex.quote(folder)} && " if folder else "",
        command=shlex.join(words),
        limit=f"{limit_s:.0f}",
        grace=f"{grace_s:.0f}",
        alarm=int(SIGALRM),
        kill=int(SIGKILL),
    )
