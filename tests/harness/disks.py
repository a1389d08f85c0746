"""File systems of a test's own, where the machine lets a user mount them."""

import shutil
import subprocess


def mounts():
    """Say whether this machine lets us mount file systems of our own."""
    if not shutil.which("unshare"):
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0
