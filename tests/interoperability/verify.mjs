// Each line in is {"statement"?, "cases": [{"kind", "response", "challenge", "origin", "rpId", "credential"?}]}, each line
// out a list: for each case what @simplewebauthn/server found, or {"refused": its words}.

import { createInterface } from 'node:readline';
import { MetadataService, verifyAuthenticationResponse, verifyRegistrationResponse } from '@simplewebauthn/server';
import { decodeAttestationObject, isoBase64URL } from '@simplewebauthn/server/helpers';

async function verified({ kind, response, challenge, origin, rpId, credential }) {
  const expected = { expectedChallenge: challenge, expectedOrigin: origin, expectedRPID: rpId };
  if (kind === 'create') {
    const found = await verifyRegistrationResponse({
      response, ...expected, requireUserVerification: true, supportedAlgorithmIDs: [-257, -37],
    });
    if (!found.verified) return { refused: 'not verified' };
    const { fmt, attestationObject, credential: made, aaguid } = found.registrationInfo;
    const x5c = decodeAttestationObject(attestationObject).get('attStmt').get('x5c');
    return {
      fmt, aaguid, x5c: x5c !== undefined,
      credential: { ...made, publicKey: isoBase64URL.fromBuffer(made.publicKey) },
    };
  }
  const found = await verifyAuthenticationResponse({
    response, ...expected, requireUserVerification: true,
    credential: { ...credential, publicKey: isoBase64URL.toBuffer(credential.publicKey) },
  });
  if (!found.verified) return { refused: 'not verified' };
  return { counter: found.authenticationInfo.newCounter };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { statement, cases } = JSON.parse(line);
  await MetadataService.initialize({
    mdsServers: [],
    statements: statement ? [statement] : [],
    verificationMode: statement ? 'strict' : 'permissive',
  });
  const answers = [];
  for (const one of cases) {
    answers.push(await verified(one).catch((error) => ({ refused: String(error.message) })));
  }
  process.stdout.write(`${JSON.stringify(answers)}\n`);
}
