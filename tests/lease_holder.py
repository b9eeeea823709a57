"""A process that takes GPUs and holds them, as a script."""

# A process that takes GPUs of a list, says which, and keeps them until it is ended.
HOLDER = """
import json, os, sys, time
from pathlib import Path
from datatrove_quality.model import leases
gpus, most, folder = json.loads(sys.argv[1])
leases.lease_folder = lambda: Path(folder)
print(json.dumps(leases.lease(gpus, most, "Set workers=2.")), flush=True)
if "fork" in sys.argv and os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(600)
"""
