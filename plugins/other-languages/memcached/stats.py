"""What memcached's statistics say. Knows nothing of plugins, so that it is tested with plain Python."""

from dataclasses import dataclass

# Source: protocol.txt of memcached, "General-purpose statistics".
METRICS = {
    "curr_connections": "memcached_connections",
    "max_connections": "memcached_connections_max",
    "curr_items": "memcached_items",
    "bytes": "memcached_bytes",
    "limit_maxbytes": "memcached_bytes_max",
    "get_hits": "memcached_get_hits_total",
    "get_misses": "memcached_get_misses_total",
    "evictions": "memcached_evictions_total",
}


class NotMemcached(Exception):
    """What answered does not speak memcached's protocol."""


@dataclass
class Verdict:
    """How the server is: "ok", "warning" or "critical", and in which words."""

    status: str
    summary: str


def parse(answer: bytes) -> dict[str, int]:
    """The statistics that we show, of an answer to `stats`."""
    found = {}
    for line in answer.decode("ascii", "replace").split("\r\n"):
        match line.split(" ", 2):
            case ["STAT", name, value] if name in METRICS and value.isdigit():
                found[name] = int(value)
            case ["STAT", _, _] | ["END"] | [""]:
                pass
            case _:
                raise NotMemcached(f"answered {line[:100]!r} to stats")
    if not found:
        raise NotMemcached("answered stats without a number that we know")
    return found


def judge(stats: dict[str, int], settings: dict) -> Verdict:
    """Judges by the settings, of which the worst that is reached counts."""
    verdict, words = "ok", []
    most = stats.get("max_connections", 0)
    if most > 0:
        used = 100 * stats.get("curr_connections", 0) / most
        words.append(f"{used:.0f}% of {most} connections in use")
        if used > settings.get("connections_critical_percent", 95):
            verdict = "critical"
        elif used > settings.get("connections_warning_percent", 80):
            verdict = "warning"
    gets = stats.get("get_hits", 0) + stats.get("get_misses", 0)
    if gets > 0:
        hits = 100 * stats.get("get_hits", 0) / gets
        words.append(f"{hits:.0f}% of {gets} gets were hits")
        if hits < settings.get("hit_warning_percent", 0) and verdict == "ok":
            verdict = "warning"
    return Verdict(verdict, ", ".join(words) or "answers")
