"""Holds a listening socket and starts a server on it as often as it is told to, as systemd does with a socket unit.

    python3 socket-holder.py PORT COMMAND [ARGUMENT...]

Standard input: `start`, or the name of a signal. Standard output: `ended CODE` whenever the server has ended.
"""
import os
import signal
import socket
import subprocess
import sys
import threading

port, command = int(sys.argv[1]), sys.argv[2:]
listening = socket.create_server(("127.0.0.1", port))
FIRST_DESCRIPTOR = 3
os.dup2(listening.fileno(), FIRST_DESCRIPTOR, inheritable=True)
# The protocol names the process that the socket is for, so the shell says who it is and becomes the server.
INHERIT = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'


def tell_when_ended(child):
    print("ended", child.wait(), flush=True)


child = None
for line in sys.stdin:
    word = line.strip()
    if word == "start":
        child = subprocess.Popen(
            ["sh", "-c", INHERIT, "sh", *command],
            pass_fds=[FIRST_DESCRIPTOR],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        threading.Thread(target=tell_when_ended, args=[child], daemon=True).start()
    elif child and child.poll() is None:
        child.send_signal(getattr(signal, word))
if child and child.poll() is None:
    child.kill()
