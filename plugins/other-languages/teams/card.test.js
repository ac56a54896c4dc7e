// Run with `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { message } from "./card.js";

const notification = {
  organization: "Acme",
  monitor: { name: "Load", memo: "see the runbook" },
  alert: {
    severity: "critical",
    message: "load is 7",
    labels: [["__name__", "load"], ["host", "web_1"]],
    url: "https://shoal.example.com/alerts/alt_1",
  },
};

const card = (changes) =>
  message({ ...notification, alert: { ...notification.alert, ...changes } }).attachments[0].content;

test("the headline says who, how bad and what", () => {
  const [headline, body] = card({}).body;
  assert.equal(headline.style, "attention");
  assert.equal(headline.items[0].text, "\\[Acme\\] CRITICAL: Load");
  assert.equal(body.text, "load is 7");
});

test("labels are facts, but for the metric's name", () => {
  const facts = card({}).body.find(({ type }) => type === "FactSet").facts;
  assert.deepEqual(facts, [{ title: "host", value: "web\\_1" }]);
});

test("text from outside makes no links", () => {
  const [, body] = card({ message: "[click](https://evil.example)" }).body;
  assert.equal(body.text, "\\[click\\]\\(https://evil.example\\)");
});

test("without an address there is nothing to click", () => {
  assert.deepEqual(card({ url: "" }).actions, []);
});
