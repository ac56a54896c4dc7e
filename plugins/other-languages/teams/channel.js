// The channel: posts a card, and says what the answer means.

import { write } from "shoal:plugin/log@0.1.0";

import { message } from "./card.js";

export const channel = {
  async notify(context, notification, settings) {
    const answer = await post(JSON.parse(settings).url, context, message(notification));
    const said = (await answer.text()).slice(0, 200);
    if (answer.ok) {
      return { summary: `${answer.status} ${said}`.trim() };
    }
    write("warn", `the workflow answered ${answer.status}: ${said}`);
    throw failure(answer, `the workflow answered ${answer.status}: ${said}`);
  },
};

async function post(url, context, body) {
  const headers = { "content-type": "application/json", "idempotency-key": context.idempotencyKey };
  try {
    return await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  } catch (error) {
    throw { tag: "retry", val: { code: "no-answer", message: String(error), afterMs: undefined } };
  }
}

/** What may pass is tried again; the address is the credential, so a revoked one is not found. */
function failure({ status, headers }, message) {
  if ([408, 425, 429].includes(status) || status >= 500) {
    const seconds = Number.parseInt(headers.get("retry-after"), 10);
    const afterMs = Number.isNaN(seconds) ? undefined : BigInt(seconds) * 1000n;
    return { tag: "retry", val: { code: `http-${status}`, message, afterMs } };
  }
  const tag = [401, 403, 404, 410].includes(status) ? "unauthenticated" : "rejected";
  return { tag, val: { code: `http-${status}`, message } };
}
