"""Inside the test root: install, start, stop and remove both packages; every step is checked."""

import fcntl
import glob
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

PACKAGES = ["attestd", "verifier"]
DEADLINE_S = 60


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def files():
    """Every file that a package could leave, but what dpkg itself keeps."""
    found = set()
    for top in ["/etc", "/usr", "/lib/systemd", "/var/lib"]:
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if os.path.join(folder, name) != "/var/lib/dpkg"]
            found.update(os.path.join(folder, name) for name in names)
    return found


class Service:
    """What the unit starts, by its own ExecStart and User, with a service manager's socket to tell."""

    def __init__(self, name):
        unit = open(f"/lib/systemd/system/{name}.service").read()
        self.command = re.search(r"^ExecStart=(.*)$", unit, re.M).group(1).split()
        user = re.search(r"^User=(.*)$", unit, re.M).group(1)
        path = f"/tmp/notify-{name}"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(path)
        os.chmod(path, 0o777)
        self.told.settimeout(DEADLINE_S)
        environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
        self.process = subprocess.Popen(self.command, user=user, group=user, extra_groups=[], umask=0o077,
                                        env=environment, cwd="/")

    def hears(self, wanted):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            if wanted in self.told.recv(4096).decode().split("\n"):
                return
        sys.exit(f"{self.command}: {wanted} was never told")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.hears("STOPPING=1")
        code = self.process.wait(DEADLINE_S)
        if code != 0:
            sys.exit(f"{self.command} ended with {code}")


def loopback_up():
    """The network namespace is new: SIOCSIFFLAGS with IFF_UP | IFF_RUNNING (netdevice(7))."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))


def as_user(user, *command, **options):
    return run("runuser", "-u", user, "--", *command, **options)


loopback_up()
before = files()
run("dpkg", "--install", *glob.glob("/tmp/*.deb"), env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
added = files() - before
for package in PACKAGES:
    run("dpkg", "--verify", package)
    for wanted in [f"/usr/bin/{package}", f"/usr/share/man/man1/{package}.1.gz",
                   f"/usr/share/bash-completion/completions/{package}", f"/lib/systemd/system/{package}.service"]:
        assert os.path.isfile(wanted), wanted
    assert run(f"/usr/bin/{package}", "--version").startswith(package)
pages = [name for name in added if "/man1/" in name]
print(f"installed: {len(added)} files, {len(pages)} manual pages")
assert "/usr/share/man/man1/verifier-refs-import.1.gz" in pages, sorted(pages)

if shutil.which("systemd-analyze"):
    units = [f"/lib/systemd/system/{package}.service" for package in PACKAGES]
    checked = subprocess.run(["systemd-analyze", "verify", *units], text=True, capture_output=True)
    said = [line for line in checked.stderr.splitlines() if any(package in line for package in PACKAGES)]
    assert checked.returncode == 0 and not said, (checked.returncode, checked.stderr)
    print("systemd-analyze verify: clean")
else:
    print("systemd-analyze not found: units not verified")

as_user("verifier", "verifier", "init", "--lab", "--domain", "a.example", "--state", "/var/lib/verifier")
verifier = Service("verifier")
verifier.hears("READY=1")
verifier.hears("WATCHDOG=1")
status = as_user("verifier", "verifier", "--version"), as_user(
    "verifier", "verifier", "log", "checkpoint", "--state", "/var/lib/verifier")
assert "a.example" in status[1], status
print("verifier: started, told READY and WATCHDOG, answered an operator")

# attestd without configuration says so, and its unit's condition keeps it from starting before.
refused = subprocess.run(["runuser", "-u", "attestd", "--", "attestd", "--state", "/var/lib/attestd", "run"],
                         text=True, capture_output=True)
assert refused.returncode == 2 and "attestd.toml" in refused.stderr, refused
print("attestd: without configuration refused with exit code 2")

# A node with a software TPM, whose EK an operator admits.
os.makedirs("/tmp/tpm")
tpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", "dir=/tmp/tpm", "--flags", "not-need-init,startup-clear",
                        "--server", "type=tcp,port=2321", "--ctrl", "type=tcp,port=2322"])
shutil.copy("/var/lib/verifier/ca.pem", "/var/lib/attestd/ca.pem")
with open("/var/lib/attestd/attestd.toml", "w") as config:
    config.write("""node_id = "node-1"
platform = "tpm"
[tpm]
tcti = "swtpm:host=127.0.0.1,port=2321"
ek = "rsa-2048"
[watch]
pcrs = [0, 1, 2, 3, 4, 5, 6, 7]
[halt]
action = "kill"
[[domain]]
name = "a.example"
nodes = "127.0.0.1:7441"
enrolment = "127.0.0.1:7440"
server_name = "localhost"
ca = "ca.pem"
""")
run("chown", "-R", "attestd:attestd", "/var/lib/attestd")
enrol = ["runuser", "-u", "attestd", "--", "attestd", "--state", "/var/lib/attestd", "enrol"]
refused = subprocess.run(enrol, text=True, capture_output=True)
ek = re.search(r"[0-9a-f]{64}", refused.stdout + refused.stderr)
assert refused.returncode == 4 and ek, refused
as_user("verifier", "verifier", "node", "admit", "node-1", "--ek", ek.group(0), "--reason", "a test",
        "--state", "/var/lib/verifier")
run(*enrol)
attestd = Service("attestd")
attestd.hears("READY=1")
attestd.hears("WATCHDOG=1")
assert "idle" in as_user("attestd", "attestd", "--state", "/var/lib/attestd", "status")
attestd.stop()
verifier.stop()
print("attestd: enrolled, started, told READY and WATCHDOG, answered; both stopped by SIGTERM, exit code 0")
tpm.kill()
tpm.wait()

run("dpkg", "--purge", *PACKAGES)
left = {name for name in files() - before if not name.startswith(("/var/lib/verifier/", "/var/lib/attestd/"))}
left -= {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-"}
assert not left, sorted(left)
assert os.path.isfile("/var/lib/verifier/verifier.toml"), "a domain's keys and log must survive purge"
print("purged: nothing left but the state folders")
