#!/usr/bin/python3
"""Holds every #include of the tree against the rooms' rules of docs/ARCHITECTURE.md.

DPDK outside dataplane/io and lb does not compile anyway; this holds the rest. Exits 1 and names
each line that breaks a rule.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Room (the longest that matches a file's path) -> what its files may include of this project. A name that
# ends in / is a folder without the folders below it; one that ends in /** is all of it; else it is one header.
PROJECT = {
    "maglev/": ["maglev/"],
    "dataplane/": ["maglev/", "dataplane/"],
    "dataplane/packet/": ["maglev/", "dataplane/", "dataplane/packet/"],
    "dataplane/io/": ["maglev/", "dataplane/", "dataplane/packet/", "dataplane/io/"],
    "control/": ["maglev/", "dataplane/", "control/**"],
    "control/api/": ["control/api/"],
    "control/config/": ["maglev/", "control/config/"],
    "lb/": ["maglev/", "dataplane/**", "control/**", "lb/"],
    "tools/": ["maglev/", "dataplane/packet/", "control/api/", "control/config/", "control/compile.h", "control/plan.h",
               "tools/**"],
    "tests/": ["**"],
    "bench/": ["**"],
}

# Foreign headers -> the rooms that may include them. What no line names is free for all.
FOREIGN = {
    r"rte_.*": ["dataplane/io/", "lb/", "tests/dataplane/io/", "bench/"],
    r"boost/program_options.*": ["tools/"],
    r"boost/.*": ["control/", "lb/", "tools/", "tests/", "bench/"],
    r"yaml-cpp/.*": ["control/config/"],
    r"google/protobuf/.*": ["control/", "tools/", "tests/"],
    r"gflags/.*": ["lb/"],
    r"prometheus/.*": ["control/", "tests/"],
    r"openssl/.*": ["control/", "tests/", "bench/"],
    r"glog/.*": ["control/", "dataplane/io/", "lb/", "tests/", "bench/"],
    # maglev/ and dataplane/packet/ know no threads, no clock and no I/O (atomics are memory).
    r"(thread|mutex|chrono|iostream|fstream|condition_variable|sys/socket\.h|time\.h|ctime)":
        ["control/", "dataplane/io/", "lb/", "tools/", "tests/", "bench/"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def allowed(target, patterns):
    for pattern in patterns:
        if pattern.endswith("**"):
            if target.startswith(pattern[:-2]):
                return True
        elif target.startswith(pattern) and "/" not in target[len(pattern):]:
            return True
    return False


def main():
    rooms = tuple(sorted({name.split("/")[0] for name in PROJECT}))
    broken = 0
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix not in (".cc", ".h"):
                continue
            name = str(path.relative_to(ROOT))
            rules = PROJECT[max((r for r in PROJECT if name.startswith(r)), key=len)]
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                header = match[1] or match[2]
                if header.startswith(tuple(r + "/" for r in rooms)):
                    ok = allowed(header, rules)
                else:
                    holders = next((h for pattern, h in FOREIGN.items() if re.fullmatch(pattern, header)), None)
                    ok = holders is None or name.startswith(tuple(holders))
                if not ok:
                    print(f"{name}:{number}: may not include {header}")
                    broken += 1
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
