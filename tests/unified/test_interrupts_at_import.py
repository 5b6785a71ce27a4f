"""Ctrl-C at moments at which CPython takes it for unhandled."""

import subprocess
import sys


def test_interrupted_while_a_class_is_made_it_ends_with_130(tmp_path):
    """Classes are made by strings that run; CPython remembers an interrupt that leaves one."""
    program = (
        "import sys\nimport unified.cli.main as command_line\nfrom unified.__main__ import main\n"
        "def parse(*args, **kwargs):\n    exec('raise KeyboardInterrupt')\n"
        "command_line.parser = lambda: parse\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 130, result
    assert result.stderr == "interrupted\n"
