// Three kinds of requests at a fixed rate, whether or not they are answered in time (an open loop), for an NGINX on this machine:
//
//	k6 run -e URL=http://127.0.0.1:8080 -e RATE=200 -e FOR=30s bench/k6/mixed.js
//
// k6 is AGPL, so it does not come with Weir: https://grafana.com/docs/k6/latest/set-up/install-k6/. Run it once through plain NGINX and once through
// Weir, with the same rate; the summary has the latencies of each kind.
import { check } from "k6";
import http from "k6/http";

const url = __ENV.URL || "http://127.0.0.1:8080";
const rate = Number(__ENV.RATE || 200); // requests a second, all kinds together
const KINDS = [
  { name: "light", share: 0.7, path: (n) => `/light/${n}` },
  { name: "page", share: 0.25, path: (n) => `/page/${n}/comments` },
  { name: "heavy", share: 0.05, path: (n) => `/heavy/${n}` },
];

/** @type {import("k6/options").Options} */
export const options = {
  summaryTrendStats: ["avg", "p(50)", "p(90)", "p(99)", "max"],
  // A threshold that always holds makes the summary list each kind.
  thresholds: Object.fromEntries(KINDS.map((k) => [`http_req_duration{kind:${k.name}}`, ["max>=0"]])),
  scenarios: Object.fromEntries(
    KINDS.map((k) => [
      k.name,
      /** @type {import("k6/options").Scenario} */ ({
        executor: "constant-arrival-rate",
        exec: "one",
        env: { KIND: k.name },
        tags: { kind: k.name },
        // so many in ten seconds: a rate is a whole number
        rate: Math.max(1, Math.round(rate * k.share * 10)),
        timeUnit: "10s",
        duration: __ENV.FOR || "30s",
        preAllocatedVUs: 20,
        maxVUs: 1000, // in flight at most; what comes above is told as dropped_iterations
      }),
    ]),
  ),
};

export function one() {
  const kind = KINDS.find((k) => k.name === __ENV.KIND) || KINDS[0];
  const answer = http.get(url + kind.path(Math.floor(Math.random() * 1e6)), { tags: { name: kind.name } });
  check(answer, { "answered below 500": (r) => r.status > 0 && r.status < 500 });
}
