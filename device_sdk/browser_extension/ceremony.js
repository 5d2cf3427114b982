// One request of a page: handed to the agent, followed until it is over, and answered.

import { AgentDown, JobGone, NotPaired, TooLarge } from "./agent_client.js";
import { requestingPage } from "./requesting_page.js";
import { closeWindow, openWindow, showProblem } from "./windows.js";

const proxy = chrome.webAuthenticationProxy;
const RESTART_MS = 5_000; // how long an agent may be away in the middle of a request
const PAUSE_MS = 200;

// To the page all of these are one: WebAuthn does not let it tell them apart.
const NOT_ALLOWED = { name: "NotAllowedError", message: "The operation either timed out or was not allowed." };
const UNKNOWN = { name: "UnknownError", message: "The authenticator could not complete the request." };

const running = new Map(); // request id → Ceremony
let searches = Promise.resolve();

export class Ceremony {
  constructor(kind, requestId) {
    this.kind = kind;
    this.requestId = requestId;
    this.documents = [];
    this.client = null;
    this.job = null;
    this.windowId = null;
    this.cancelled = false;
    running.set(requestId, this);
  }

  /** A page's request, from its options to its answer. */
  async serve(client, options) {
    this.client = client;
    await this.#answerWith(async () => {
      const page = await this.#findPage(options.extensions?.remoteDesktopClientOverride?.origin);
      const told = await client.post("/v1/jobs", { kind: this.kind, page, options });
      return this.#follow(told);
    });
  }

  /** Without an agent to ask. */
  async refuse() {
    await this.#answerWith(() => {
      throw new NotPaired();
    });
  }

  /** The same as `serve` for one that a service worker before this one has begun. */
  async resume(client, saved) {
    this.client = client;
    this.documents = saved.documents;
    this.windowId = saved.windowId;
    await this.#answerWith(() => this.#follow({ job: saved.job, version: -1, state: "waiting" }));
  }

  /** The page, the person or the browser gave up. */
  async cancel() {
    this.cancelled = true;
    if (this.job) {
      await this.client.post(`/v1/jobs/${this.job}/cancel`, {}).catch(() => {});
    }
  }

  async #follow(told) {
    this.job = told.job ?? null;
    await save();
    if (this.cancelled) {
      await this.cancel();
    }
    let lostAt = null;
    while (told.state !== "over") {
      if (told.consent && this.windowId === null) {
        this.windowId = 0; // being opened
        this.#showWindow(told.consent);
      }
      await chrome.runtime.getPlatformInfo(); // a call of the browser's keeps the service worker alive, a fetch does not
      try {
        told = await this.client.post(`/v1/jobs/${this.job}/wait`, { seen: told.version });
        lostAt = null;
      } catch (error) {
        lostAt ??= Date.now();
        if (!(error instanceof AgentDown) || Date.now() - lostAt > RESTART_MS) {
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
    return told;
  }

  /** The name of the page that asked. One search at a time: two requests must not be taken for the same document's. */
  #findPage(origin) {
    const found = searches.then(async () => {
      const known = [...running.values()].filter((other) => other.documents.length === 1);
      const busy = new Set(known.map((other) => other.documents[0].documentId));
      const page = await requestingPage(origin, busy);
      this.documents = page.documents;
      return page.key;
    });
    searches = found.catch(() => {});
    return found;
  }

  async #showWindow(path) {
    try {
      const id = await openWindow(this.client.at(path));
      this.windowId = id;
      await (running.has(this.requestId) ? save() : closeWindow(id));
    } catch (error) {
      console.error(error);
      await this.cancel(); // nobody can consent
    }
  }

  async #answerWith(serve) {
    let answer;
    try {
      const told = await serve();
      answer = told.error ? { error: told.error } : { responseJson: JSON.stringify(told.response) };
    } catch (error) {
      answer = { error: error instanceof TooLarge ? UNKNOWN : NOT_ALLOWED };
      if (error instanceof AgentDown || error instanceof NotPaired) {
        showProblem(error instanceof AgentDown ? "agent_down" : "not_paired");
      } else if (!(error instanceof JobGone)) {
        console.error(error);
      }
    }
    running.delete(this.requestId);
    const complete = this.kind === "create" ? proxy.completeCreateRequest : proxy.completeGetRequest;
    await complete({ requestId: this.requestId, ...answer }).catch(() => {}); // a page that has gone takes no answer
    // After a failure the window stays, and tells the person what it was.
    if (this.windowId && (answer.responseJson || this.cancelled)) {
      closeWindow(this.windowId);
    }
    await save();
  }
}

/** The running ceremony that `test` is true for. */
export function ceremonyWith(test) {
  return [...running.values()].find(test);
}

/** Tandem is to answer no more: what is under way ends as well. */
export async function cancelAll() {
  await Promise.all([...running.values()].map((ceremony) => ceremony.cancel()));
}

/** Forget documents that went away; `ended` is called with each ceremony that none is left of. */
export function dropDocuments(isGone, ended) {
  for (const ceremony of running.values()) {
    const left = ceremony.documents.filter((known) => !isGone(known));
    if (ceremony.documents.length && !left.length) {
      ended(ceremony);
    }
    ceremony.documents = left;
  }
}

/** What was running when the browser stopped the last service worker: [{kind, requestId, job, windowId, documents}]. */
export async function interrupted() {
  const { ceremonies = [] } = await chrome.storage.session.get("ceremonies");
  return ceremonies;
}

function save() {
  const ceremonies = [...running.values()]
    .filter((ceremony) => ceremony.job)
    .map(({ kind, requestId, job, windowId, documents }) => ({ kind, requestId, job, windowId, documents }));
  return chrome.storage.session.set({ ceremonies });
}
