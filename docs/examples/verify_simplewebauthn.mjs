// A relying party that verifies Tandem passkeys with SimpleWebAuthn (npm install @simplewebauthn/server, node 20 or later).
//
//     node verify_simplewebauthn.mjs FOLDER...
//
// `Site` is what a site needs; below it the program judges the ceremonies that `make demo ARGS="--dump FOLDER"` wrote, in
// their order, and prints a line for each. Without FOLDER it prints options for a registration at localhost.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import {
  generateAuthenticationOptions,
  generateRegistrationOptions,
  verifyAuthenticationResponse,
  verifyRegistrationResponse,
} from "@simplewebauthn/server";

// RS256, then PS256. A site that also takes other passkeys adds their algorithms.
const ALGORITHMS = [-257, -37];

export class Site {
  // `passkeys` stands for a table: credential id → public key, counter.
  passkeys = new Map();

  constructor(rpID, origin) {
    this.rpID = rpID;
    this.origin = origin;
  }

  // For navigator.credentials.create(). Keep `challenge` in the user's session, and take it out to verify.
  registrationOptions(userName) {
    return generateRegistrationOptions({
      rpID: this.rpID,
      rpName: "Shop",
      userName,
      attestationType: "direct",
      supportedAlgorithmIDs: ALGORITHMS,
      authenticatorSelection: { residentKey: "required", userVerification: "required" },
    });
  }

  async register(expectedChallenge, response) {
    const { verified, registrationInfo } = await verifyRegistrationResponse({
      response,
      expectedChallenge,
      expectedOrigin: this.origin,
      expectedRPID: this.rpID,
      requireUserVerification: true,
      supportedAlgorithmIDs: ALGORITHMS, // without it PS256 is refused
    });
    if (!verified) throw new Error("the attestation does not verify");
    const { credential } = registrationInfo;
    if (this.passkeys.has(credential.id)) throw new Error("this passkey is somebody's already");
    this.passkeys.set(credential.id, credential);
    return credential.counter;
  }

  // For navigator.credentials.get().
  loginOptions() {
    return generateAuthenticationOptions({
      rpID: this.rpID,
      userVerification: "required",
      allowCredentials: [...this.passkeys.keys()].map((id) => ({ id })),
    });
  }

  async signIn(expectedChallenge, response) {
    const credential = this.passkeys.get(response.id);
    if (!credential) throw new Error("an unknown passkey");
    const { verified, authenticationInfo } = await verifyAuthenticationResponse({
      response,
      expectedChallenge,
      expectedOrigin: this.origin,
      expectedRPID: this.rpID,
      credential, // its counter is compared: one that does not grow is refused
      requireUserVerification: true,
    });
    if (!verified) throw new Error("the signature does not verify");
    credential.counter = authenticationInfo.newCounter;
    return credential.counter;
  }
}

async function judge(folder) {
  let site;
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
    const ceremony = JSON.parse(readFileSync(join(folder, name), "utf-8"));
    site ??= new Site(ceremony.rp_id, ceremony.origin);
    try {
      const verify = ceremony.kind === "create" ? "register" : "signIn";
      console.log(`${name}: counter ${await site[verify](ceremony.options.challenge, ceremony.response)}`);
    } catch (refusal) {
      console.log(`${name}: refused: ${refusal.message}`);
    }
  }
}

const folders = process.argv.slice(2);
for (const folder of folders) await judge(folder);
if (!folders.length) console.log(JSON.stringify(await new Site("localhost", "http://localhost:8080").registrationOptions("ann")));
