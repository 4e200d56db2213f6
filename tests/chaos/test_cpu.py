"""What a process and its children use counts from the first look on."""

import subprocess
import sys

from bench.chaos.cpu import Cpu

BUSY = """
import subprocess, sys, time
while time.process_time() < 0.3: pass
child = "import sys, time\\nwhile time.process_time() < 0.3: pass\\nprint(1, flush=True)\\ninput()"
subprocess.run([sys.executable, "-c", child])
"""


def test_the_whole_tree_counts_by_role():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"1\n"
        status = [("http-2", process.pid), ("http-1", None)]
        cpu = Cpu()
        cpu.look(status, fresh=True)
        assert cpu.used_s()["http"] >= 0.55
        later = Cpu()
        later.look(status, fresh=False)
        assert later.used_s() == {"http": 0.0}
    finally:
        process.communicate(b"\n")
