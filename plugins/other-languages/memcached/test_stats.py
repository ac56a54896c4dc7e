"""Run with `python3 -m unittest`."""

import unittest

import stats

ANSWER = b"""STAT pid 1\r
STAT version 1.6.18\r
STAT max_connections 100\r
STAT curr_connections 90\r
STAT get_hits 30\r
STAT get_misses 70\r
STAT rusage_user 0.05\r
END\r
"""


class Statistics(unittest.TestCase):
    def test_numbers_that_are_shown_are_read(self):
        expected = {"max_connections": 100, "curr_connections": 90, "get_hits": 30, "get_misses": 70}
        self.assertEqual(stats.parse(ANSWER), expected)

    def test_what_is_no_memcached_is_told_with_what_it_said(self):
        with self.assertRaisesRegex(stats.NotMemcached, "ERR unknown"):
            stats.parse(b"-ERR unknown command\r\n")
        with self.assertRaises(stats.NotMemcached):
            stats.parse(b"END\r\n")

    def test_the_worst_that_is_reached_counts(self):
        found = stats.parse(ANSWER)
        self.assertEqual(stats.judge(found, {}).status, "warning")
        self.assertEqual(stats.judge(found, {"connections_critical_percent": 85}).status, "critical")
        calm = {"connections_warning_percent": 90}
        self.assertEqual(stats.judge(found, calm).status, "ok")
        self.assertEqual(stats.judge(found, calm | {"hit_warning_percent": 60}).status, "warning")
        self.assertEqual(
            stats.judge(found, {}).summary, "90% of 100 connections in use, 30% of 100 gets were hits"
        )


if __name__ == "__main__":
    unittest.main()
