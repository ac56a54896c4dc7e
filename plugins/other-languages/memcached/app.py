"""The check: connects, asks for the statistics, and says what they mean.

A server that is down is an outcome. A destination that may not be reached is a failure, which leaves the alert as it is.
"""

import json
from urllib.parse import urlsplit

from componentize_py_types import Err
from wit_world.exports.check import Measurement, Outcome, Status
from wit_world.imports import net
from wit_world.imports.types import CallContext, Failure_Rejected, FailureDetail

import stats

# The statistics take about 2 KiB.
ANSWER_MAX_BYTES = 65_536


class Check:
    def run(self, context: CallContext, settings: str) -> Outcome:
        settings = json.loads(settings)
        try:
            answer = ask(settings["url"], settings.get("timeout_ms", 2000))
            found = stats.parse(answer)
        except Err as error:
            return unreachable(error.value)
        except stats.NotMemcached as problem:
            return down(f"{settings['url']} {problem}")
        verdict = stats.judge(found, settings)
        measured = [Measurement(stats.METRICS[name], float(value), []) for name, value in found.items()]
        return Outcome(Status[verdict.status.upper()], verdict.summary, [up(1.0), *measured])


def ask(url: str, timeout_ms: int) -> bytes:
    target = urlsplit(url)
    with net.tcp_connect(target.hostname, target.port, timeout_ms) as connection:
        connection.write(b"stats\r\n", timeout_ms)
        answer = b""
        while not answer.endswith(b"END\r\n") and len(answer) < ANSWER_MAX_BYTES:
            more = connection.read(4096, timeout_ms)
            if not more:
                break
            answer += more
        return answer


def unreachable(error: net.NetError) -> Outcome:
    match error:
        case net.NetError_Denied(reason) | net.NetError_LimitReached(reason):
            raise Err(Failure_Rejected(FailureDetail("not-allowed", reason)))
        case net.NetError_NotFound(reason) | net.NetError_TimedOut(reason) | net.NetError_Failed(reason):
            return down(reason)


def down(reason: str) -> Outcome:
    return Outcome(Status.CRITICAL, reason, [up(0.0)])


def up(value: float) -> Measurement:
    return Measurement("memcached_up", value, [])
