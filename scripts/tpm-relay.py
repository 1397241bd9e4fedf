#!/usr/bin/env python3
"""Lets programs of this machine use the TPM that a virtual machine used, over swtpm's TCP protocol.

usage: tpm-relay.py CONTROL FILE
CONTROL is the UNIX control socket of a swtpm whose virtual machine is gone (killed, so that nothing reset the TPM): its
registers are as the guest left them. Prints the data port to FILE once it listens; the control port is the next one.
For tests alone: whoever reaches the ports has the TPM."""

import array
import os
import socket
import struct
import sys
import threading

CMD_SET_DATAFD = 0x10  # swtpm's control channel, as QEMU uses it
HEADER = struct.Struct(">HII")  # a TPM command or response: tag, length, code


def data_channel(control):
    """Gives swtpm one end of a socket pair, as QEMU does, and keeps the other."""
    ours, theirs = socket.socketpair()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))
    control.sendmsg([struct.pack(">I", CMD_SET_DATAFD)], [rights])
    if control.recv(4) != bytes(4):
        sys.exit("swtpm takes no data channel")
    theirs.close()
    return ours


def exactly(stream, length):
    """Reads so many bytes; fewer mean that the peer is gone."""
    read = b""
    while len(read) < length:
        more = stream.recv(length - len(read))
        if not more:
            raise ConnectionError
        read += more
    return read


def message(stream):
    head = exactly(stream, HEADER.size)
    return head + exactly(stream, HEADER.unpack(head)[1] - HEADER.size)


def commands(client, tpm, turn):
    """TPM commands of one client, each answered before the next of any."""
    while True:
        command = message(client)
        with turn:
            tpm.sendall(command)
            answer = message(tpm)
        client.sendall(answer)


def controls(client, control, turn):
    """Control commands (localities, cancelling): short, and answered at once."""
    while True:
        command = client.recv(4096)
        if not command:
            return
        with turn:
            control.sendall(command)
            answer = control.recv(4096)
        client.sendall(answer)


def served(listener, one, *using):
    def until_gone(client):
        try:
            one(client, *using)
        except (ConnectionError, struct.error):
            pass
        finally:
            client.close()

    while True:
        client, _ = listener.accept()
        threading.Thread(target=until_gone, args=(client,), daemon=True).start()


def neighbours():
    """Two listeners on neighbouring ports of the loopback."""
    for _ in range(64):
        data = socket.create_server(("127.0.0.1", 0))
        port = data.getsockname()[1]
        try:
            return port, data, socket.create_server(("127.0.0.1", port + 1))
        except OSError:
            data.close()
    sys.exit("no two neighbouring ports are free")


def main():
    path, out = sys.argv[1:]
    control = socket.socket(socket.AF_UNIX)
    control.connect(path)
    tpm, turn = data_channel(control), threading.Lock()
    port, data, side = neighbours()
    threading.Thread(target=served, args=(side, controls, control, turn), daemon=True).start()
    with open(out + ".new", "w", encoding="ascii") as file:
        file.write(str(port))
    os.rename(out + ".new", out)
    served(data, commands, tpm, turn)


main()
