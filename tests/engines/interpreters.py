"""Interpreters that do something before they are Python."""

import sys

BANNER = "#!/bin/sh\nprintf 'Welcome to the cluster\\n\\377\\376 {}'\n"


def script(path, text, exec_="exec "):
    path.write_text(f'{text}\n{exec_}{sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)
