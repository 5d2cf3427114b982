// Requests to the agent. Each proves the pairing key without sending it, and so must each answer: whoever else listens
// on the agent's port neither learns the key nor is believed.

export class AgentDown extends Error {}
export class NotPaired extends Error {}
export class JobGone extends Error {}
export class TooLarge extends Error {}

const LIMIT_MS = 10_000;
const encoder = new TextEncoder();

export class AgentClient {
  #host;
  #key;

  /** pairing: {port, key}, as `parseCode` gives it. */
  constructor({ port, key }) {
    this.#host = `127.0.0.1:${port}`;
    this.#key = crypto.subtle.importKey("raw", bytesOf(key), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
  }

  /** Where a path of the agent's lies. */
  at(path) {
    return `http://${this.#host}${path}`;
  }

  /** The answer's object. Throws AgentDown, NotPaired (who answers does not know the key), JobGone, TooLarge. */
  async post(path, content) {
    const body = encoder.encode(JSON.stringify(content));
    const key = await this.#key;
    const time = String(Date.now());
    const nonce = textOf(crypto.getRandomValues(new Uint8Array(16)));
    const mac = await crypto.subtle.sign("HMAC", key, joined(`tandem agent request v1\nPOST\n${this.#host}\n${path}\n${time}\n${nonce}\n`, body));
    let answer;
    let received;
    try {
      answer = await fetch(this.at(path), {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Tandem-Time": time, "X-Tandem-Nonce": nonce, "X-Tandem-Mac": textOf(new Uint8Array(mac)) },
        body,
        credentials: "omit",
        redirect: "error",
        cache: "no-store",
        signal: AbortSignal.timeout(LIMIT_MS),
      });
      received = new Uint8Array(await answer.arrayBuffer());
    } catch {
      throw new AgentDown();
    }
    if (answer.status === 413) {
      throw new TooLarge();
    }
    const claimed = bytesOf(answer.headers.get("X-Tandem-Mac") ?? "");
    const text = joined(`tandem agent answer v1\n${nonce}\n${answer.status}\n`, received);
    if (!(await crypto.subtle.verify("HMAC", key, claimed, text))) {
      throw new NotPaired();
    }
    if (answer.status === 404) {
      throw new JobGone();
    }
    if (answer.status !== 200) {
      throw new Error("The agent failed, or does not understand this extension: load the one that came with it.");
    }
    return JSON.parse(new TextDecoder().decode(received));
  }
}

function joined(head, body) {
  const start = encoder.encode(head);
  const whole = new Uint8Array(start.length + body.length);
  whole.set(start);
  whole.set(body, start.length);
  return whole;
}

function bytesOf(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) {
    return new Uint8Array();
  }
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

function textOf(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
