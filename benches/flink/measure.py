"""Runs both jobs in turns, prints a table, and writes JSON. The script `run` builds what it needs, and starts it."""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

SERVICE_CORE, JOB_CORE = 0, 1
WINDOWS = {"http": (100, 1_000, 10_000), "raw": (100, 1_000, 10_000), "none": (1_000,)}
CLIENTS = {"http": "HTTP", "raw": "raw socket", "none": "none"}
# Flink's side warms up for longer, because the JVM compiles what has run often enough.
WARM_UP = {"flink": 10, "inflight": 2}
# Small heaps that cost no speed, by client and, for Java's, by capacity: 10,000 of its requests keep more than 200 MB alive.
HEAP = {"http": {100: "128m", 1_000: "256m", 10_000: "640m"}, "raw": "64m", "none": "64m"}
JAVA = [
    "java",
    "-XX:+UseSerialGC",
    # With one or two cores Java's client would start a thread for every request, at four times the CPU.
    "-Djava.util.concurrent.ForkJoinPool.common.parallelism=2",
    # The JVM would write its warnings between the figures.
    "-Xlog:disable",
    "-Xlog:all=warning:stderr",
]


def main():
    options = parse()
    raise_file_limit()
    if not {SERVICE_CORE, JOB_CORE} <= os.sched_getaffinity(0):
        sys.exit("two cores are needed: one for the service, one for the job")
    load = os.getloadavg()
    archive_classes(options)
    samples = {}
    for repetition in range(options.repetitions):
        for client in options.client:
            for capacity in options.capacity or WINDOWS[client]:
                for side in WARM_UP:
                    sample = measure(options, side, client, capacity)
                    samples.setdefault((client, capacity), {}).setdefault(side, []).append(sample)
                    report(f"{repetition + 1}/{options.repetitions} {client} {capacity} {side}", sample)
    rows = [(row, {side: medians(found) for side, found in sides.items()}) for row, sides in samples.items()]
    print(table(rows))
    write_json(options, load, rows, samples)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True, type=Path, help="the folder of what `run` has built (`run` says it)")
    parser.add_argument("--flink", required=True, help="the version of Flink (`run` says it)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="the measured time of each run")
    parser.add_argument("--client", action="append", choices=WINDOWS, help="only this row; may be repeated")
    parser.add_argument("--capacity", action="append", type=int)
    options = parser.parse_args()
    options.client = options.client or list(WINDOWS)
    return options


def raise_file_limit():
    """A window of 10,000 requests has 10,000 connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 10_100:
        sys.exit(f"10,100 open files are needed, and {hard} are allowed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def archive_classes(options):
    """Class data sharing, the JVM's remedy for a slow start: one run of the job writes the archive that all others map."""
    archive = options.cache / "job.jsa"
    if not archive.exists():
        report("the JVM archives the classes of the job")
        run_job(options, [*java(options, "http", 100), f"-XX:ArchiveClassesAtExit={archive}"], "http", 100, 1, 1)


def measure(options, side, client, capacity):
    if side == "flink":
        words = [*java(options, client, capacity), f"-XX:SharedArchiveFile={options.cache / 'job.jsa'}"]
    else:
        words = [options.cache / "cargo/release/inflight-beside-flink"]
    return run_job(options, words, client, capacity, WARM_UP[side], options.seconds)


def java(options, client, capacity):
    class_path = f"{options.cache}/flink-dist-{options.flink}.jar:{options.cache}/job.jar"
    heap = HEAP[client]
    if isinstance(heap, dict):
        heap = heap.get(capacity, "640m")
    return [*JAVA, f"-Xms{heap}", f"-Xmx{heap}", "-cp", class_path]


def run_job(options, words, client, capacity, warm_up, seconds):
    """One run of a job, with a service of its own and an empty folder of checkpoints."""
    main_class = ["Job"] if words[0] == "java" else []
    with tempfile.TemporaryDirectory(dir=options.cache) as checkpoints:
        service = start([options.cache / "cargo/release/service"], SERVICE_CORE)
        try:
            port = service.stdout.readline().strip()
            started = time.time()
            job = start([*words, *main_class, client, capacity, port, checkpoints, warm_up, seconds], JOB_CORE)
            output, errors = job.communicate(timeout=300)
            if job.returncode != 0:
                sys.exit(f"{errors}\nthe job has failed: {words[0]} {client} {capacity}")
            took, records, cpu, kernel, peak = map(float, output.split())
            if records == 0:
                sys.exit(f"no record came out while it was measured: {words[0]} {client} {capacity}")
            first = None if client == "none" else float(service.stdout.readline()) / 1e6 - started
        finally:
            service.kill()
            service.communicate()
        return {
            "records_a_second": records / took,
            "cpu_us": cpu * 1e6 / records,
            "kernel_us": kernel * 1e6 / records,
            "peak_mib": peak / 1024,
            "first_request_s": first,
            "checkpoint_bytes": checkpoint_bytes(Path(checkpoints)),
        }


def start(words, core):
    def pin():
        os.sched_setaffinity(0, {core})

    words = [str(word) for word in words]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=pin)


def checkpoint_bytes(folder):
    """The bytes of the newest whole checkpoint: a folder of Flink's, or a file of ours."""
    whole = [metadata.parent for metadata in folder.glob("*/chk-*/_metadata")]
    if whole:
        newest = max(whole, key=lambda found: int(found.name.removeprefix("chk-")))
        return sum(file.stat().st_size for file in newest.iterdir())
    files = [file.stat() for file in folder.iterdir() if file.is_file()]
    return max(files, key=lambda file: file.st_mtime).st_size if files else None


def medians(samples):
    found = {name: [sample[name] for sample in samples if sample[name] is not None] for name in samples[0]}
    return {name: statistics.median(values) if values else None for name, values in found.items()}


def table(rows):
    lines = [
        "| client | capacity | records a second | CPU, us a record | of it in the kernel | peak memory, MiB | first request, s | bytes of a checkpoint |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (client, capacity), sides in rows:
        digits = 2 if client == "none" else 1
        cells = [
            pair(sides, "records_a_second", 0),
            pair(sides, "cpu_us", digits, ratio=True),
            pair(sides, "kernel_us", digits),
            pair(sides, "peak_mib", 0, ratio=True),
            pair(sides, "first_request_s", 2),
            pair(sides, "checkpoint_bytes", 0),
        ]
        lines.append(" | ".join([f"| {CLIENTS[client]}", f"{capacity:,}", *cells]) + " |")
    return "\n".join(lines)


def pair(sides, name, digits, ratio=False):
    """Flink's figure and ours, and perhaps their ratio: `400 / 20: 20 times`."""
    flink, ours = sides["flink"][name], sides["inflight"][name]
    if flink is None or ours is None:
        return ""
    times = flink / ours if ratio else 0
    return f"{flink:,.{digits}f} / {ours:,.{digits}f}" + (f": {times:.{0 if times >= 10 else 1}f} times" if ratio else "")


def write_json(options, load, rows, samples):
    found = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": first_line("git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"),
        "flink": options.flink,
        "java": first_line("java", "--version"),
        "java_options": JAVA[1:],
        "java_heap": HEAP,
        "rustc": first_line("rustc", "--version"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": load,
        "warm_up_seconds": WARM_UP,
        "seconds": options.seconds,
        "rows": [
            {"client": row[0], "capacity": row[1], "medians": sides, "samples": samples[row]} for row, sides in rows
        ],
    }
    path = options.cache / "result.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    report(f"load before the first run: {load[0]:.1f}; each run is in {os.path.relpath(path)}")


def first_line(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout.partition("\n")[0]


def processor():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.machine()


def report(*words):
    print(*words, file=sys.stderr)


main()
