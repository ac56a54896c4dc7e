// The adaptive card of a notification. Knows nothing of plugins, so that it is tested with plain Node.

/** Labels shown; more would push the message out of sight. */
const LABELS_MAX = 10;

const LOOKS = {
  ok: { word: "OK", style: "good" },
  warning: { word: "WARNING", style: "warning" },
  critical: { word: "CRITICAL", style: "attention" },
  unknown: { word: "UNKNOWN", style: "emphasis" },
};

/** The body that a workflow's webhook takes. Source: "Adaptive Cards schema", version 1.4. */
export function message({ organization, alert, monitor }) {
  const { word, style } = LOOKS[alert.severity];
  const labels = alert.labels.filter(([name]) => name !== "__name__").slice(0, LABELS_MAX);
  const card = {
    type: "AdaptiveCard",
    $schema: "http://adaptivecards.io/schemas/adaptive-card.json",
    version: "1.4",
    body: [
      {
        type: "Container",
        style,
        bleed: true,
        items: [{ ...text(`[${organization}] ${word}: ${monitor.name}`), weight: "Bolder" }],
      },
      text(alert.message),
      { type: "FactSet", facts: labels.map(([title, value]) => ({ title, value: plain(value) })) },
      ...(monitor.memo ? [{ ...text(monitor.memo), isSubtle: true }] : []),
    ],
    actions: alert.url ? [{ type: "Action.OpenUrl", title: "Show the alert", url: alert.url }] : [],
  };
  const contentType = "application/vnd.microsoft.card.adaptive";
  return { type: "message", attachments: [{ contentType, contentUrl: null, content: card }] };
}

function text(value) {
  return { type: "TextBlock", text: plain(value), wrap: true };
}

/** Cards know a little Markdown: a host's name must not become a link. */
function plain(value) {
  return value.replace(/[\\[\]()*_]/g, "\\$&");
}
