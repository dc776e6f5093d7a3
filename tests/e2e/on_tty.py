"""A program on a terminal of its own, as somebody sees it who sits there."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

from labkit import LabError, wait_until

ENTERED = "\x1b[?1049h"  # the alternate screen
LEFT = "\x1b[?1049l"


class Tty:
    """Runs `argv` in front of a terminal of `rows` and `columns`. It begins with colours off; `environment` changes that."""

    def __init__(self, argv, rows=24, columns=100, **environment):
        self._ours, self._theirs = pty.openpty()
        self.resize(rows, columns)
        self.modes_before = termios.tcgetattr(self._theirs)
        self.printed = ""
        self.process = subprocess.Popen(
            argv,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **environment},
            start_new_session=True,
            preexec_fn=self._log_in,
        )

    @staticmethod
    def _log_in():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # Whoever was started in the background passes on that it is ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def resize(self, rows, columns):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self._ours, keys.encode())

    def read(self):
        """Takes in what was printed."""
        while select.select([self._ours], [], [], 0)[0]:
            self.printed += os.read(self._ours, 65536).decode()
        return self.printed

    def frames(self):
        """What was drawn, complete screens only, the latest last: text with line feeds, colours left in."""
        frames = self.read().split("\x1b[H")[1:]
        done = [frame[: frame.index("\x1b[J")] for frame in frames if "\x1b[J" in frame]
        return [frame.replace("\x1b[K", "").replace("\r", "") for frame in done]

    def wait_frame(self, holds, what, seen=None):
        """Waits for a screen that is drawn from now on, or after the first `seen`, of which `holds(text)` is true; the text."""
        if seen is None:
            seen = len(self.frames())

        def look():
            assert self.process.poll() is None, self.printed
            return next((frame for frame in self.frames()[seen:] if holds(frame)), None)

        try:
            return wait_until(look, what, deadline_s=30)
        except LabError as e:
            raise AssertionError(f"{e} Drawn since: {self.frames()[seen:][-2:]}, before: {self.frames()[:seen][-1:]}") from e

    def wait_end(self):
        """The exit status; the terminal is as it was before."""
        status = self.process.wait(timeout=30)
        self.assert_left()
        return status

    def assert_left(self):
        printed = self.read()
        assert printed.rfind(LEFT) > printed.rfind(ENTERED) >= 0, printed
        assert printed.rfind("\x1b[?25h") > printed.rfind("\x1b[?25l"), "the cursor is there again"
        assert printed.rfind("\x1b[?7h") > printed.rfind("\x1b[?7l"), "long lines wrap again"
        assert termios.tcgetattr(self._theirs) == self.modes_before

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextlib.contextmanager
def tty(argv, **options):
    there = Tty(argv, **options)
    try:
        yield there
    finally:
        there.close()


def fits(frame, rows, columns):
    lines = re.sub(r"\x1b\[[0-9;]*m", "", frame).split("\n")
    return len(lines) <= rows and all(len(line) <= columns for line in lines)
