"""Processes that outlive the command that started them."""

import contextlib
import dataclasses
import os
import pathlib
import select
import signal


@dataclasses.dataclass
class Process:
    """One program and its children: a process group. Told from a later one with the same id by its
    start time, so it is safe to keep in a file."""

    pid: int
    started: str

    @classmethod
    def start(cls, argv, log):
        """Starts `argv`; what it prints goes behind what is in the file `log`."""
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE],
        )
        return cls(pid, _stat(pid)[1])

    @classmethod
    def own(cls):
        """The one that asks."""
        return cls(os.getpid(), _stat(os.getpid())[1])

    def running(self):
        state, started = _stat(self.pid)
        return started == self.started and state != "Z"

    def stop(self, number=signal.SIGTERM, deadline_s=10.0):
        """Sends the signal to the group and waits for the end; after `deadline_s` it kills.

        Returns the exit status, as subprocess has it, if the process is a child of this one.
        """
        if self.running():
            # It may end at any time without our doing.
            with contextlib.suppress(ProcessLookupError):
                gone = os.pidfd_open(self.pid)
                try:
                    os.killpg(self.pid, number)
                    if not select.select([gone], [], [], deadline_s)[0]:
                        os.killpg(self.pid, signal.SIGKILL)
                        select.select([gone], [], [])
                finally:
                    os.close(gone)
        return self._reap()

    def _reap(self):
        """The exit status of a child that has ended, once; else None."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status) if pid else None


def last_words(log):
    """The last line of a log."""
    lines = pathlib.Path(log).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing."


def _stat(pid):
    """(state, start time) of a process; (None, None) if there is none."""
    try:
        # The second field is a name in brackets, which may hold anything.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None, None
    return fields[0], fields[19]
