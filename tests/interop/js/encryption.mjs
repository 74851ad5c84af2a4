// Two people with several matrix-js-sdk devices each talk in an encrypted room, on one server or on two.
//
//   node encryption.mjs '{"password": "…", "alice": {"url": "…", "user": "@…"}, "bob": {…}}'
//
// Prints one line a step; ends with status 0 only if all of them succeeded.

import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";
import { CryptoEvent, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { PATIENCE_MS, step, until } from "./common.mjs";

const { password, alice: ALICE, bob: BOB } = JSON.parse(process.argv[2]);
const WHOLE_MS = 240_000;
const DEVICES = [];
const ENCRYPTION = {
    type: "m.room.encryption",
    state_key: "",
    content: { algorithm: "m.megolm.v1.aes-sha2" },
};

// The cryptography tells of every step otherwise.
logger.setLevel("silent");
for (const level of ["debug", "info", "warn", "error", "trace"]) console[level] = () => {};

/** What `promise` gives, or the error that it was not there in time. */
function within(ms, what, promise) {
    const late = new Error(`not seen within ${ms} ms: ${what}`);
    let timer;
    const timeout = new Promise((_, reject) => {
        timer = setTimeout(() => reject(late), ms);
    });
    return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

/** A new device of somebody, syncing; it keeps its keys in memory and what it sends to devices in `sent`. */
class Device {
    static async login(person, name) {
        const device = new Device();
        device.person = person;
        device.sent = [];
        device.unanswered = new Set();
        DEVICES.push(device);
        const login = await sdk.createClient({ baseUrl: person.url }).loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: person.user },
            password,
            initial_device_display_name: name,
        });
        device.id = login.device_id;
        device.client = sdk.createClient({
            baseUrl: person.url,
            userId: login.user_id,
            accessToken: login.access_token,
            deviceId: login.device_id,
            fetchFn: (resource, options) => device.fetch(resource, options),
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => {
                    const [keyId] = Object.keys(keys);
                    return [keyId, person.recoveryKey.privateKey];
                },
            },
        });
        await device.client.initRustCrypto({ useIndexedDB: false });
        device.crypto = device.client.getCrypto();
        device.crypto.setTrustCrossSignedDevices(true);
        await device.client.startClient({ initialSyncLimit: 50 });
        await until(`first sync of ${name}`, () => device.client.isInitialSyncComplete());
        return device;
    }

    async fetch(resource, options) {
        const path = new URL(resource).pathname;
        if (path.includes("/sendToDevice/m.room.encrypted/")) {
            this.sent.push(JSON.parse(options.body).messages);
        }
        const request = `no answer yet to ${options.method} ${path} of ${new Date().toISOString()}`;
        this.unanswered.add(request);
        try {
            return await fetch(resource, options);
        } finally {
            this.unanswered.delete(request);
        }
    }

    /** Confirm by the password where the server asks for it; it need not for somebody's first keys. */
    async authorised(makeRequest) {
        try {
            return await makeRequest(null);
        } catch (error) {
            const { session } = error.data;
            const identifier = { type: "m.id.user", user: this.person.user };
            return makeRequest({ type: "m.login.password", identifier, password, session });
        }
    }

    /** The first device of somebody makes their identity, and keeps it on the server for the next ones. */
    async makeIdentity() {
        this.person.recoveryKey = await this.crypto.createRecoveryKeyFromPassphrase();
        await this.crypto.bootstrapCrossSigning({
            authUploadDeviceSigningKeys: (makeRequest) => this.authorised(makeRequest),
        });
        await this.crypto.bootstrapSecretStorage({
            createSecretStorageKey: async () => this.person.recoveryKey,
            setupNewKeyBackup: true,
        });
        await until("secret storage", () => this.crypto.isSecretStorageReady());
        await until("cross-signing", () => this.crypto.isCrossSigningReady());
        await until("the backup", () => this.crypto.getActiveSessionBackupVersion());
    }

    /** A later device takes the identity over by the recovery key, and reads the backup. */
    async takeIdentityOver() {
        // The private keys are held against the public ones, so these have to be here.
        assert.ok(await this.crypto.userHasCrossSigningKeys(this.person.user, true));
        await this.crypto.bootstrapCrossSigning({});
        await until("cross-signing of a new device", () => this.crypto.isCrossSigningReady());
        await this.crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await this.crypto.checkKeyBackupAndEnable();
        return this.crypto.restoreKeyBackup();
    }

    /** As the server has it now; matrix-js-sdk remembers what it was when the device began to use it. */
    backupOnServer() {
        const options = { prefix: "/_matrix/client/v3" };
        return this.client.http.authedRequest("GET", "/room_keys/version", undefined, undefined, options);
    }

    async send(roomId, text) {
        const { event_id: eventId } = await this.client.sendTextMessage(roomId, text);
        return eventId;
    }

    event(roomId, eventId) {
        return this.client.getRoom(roomId)?.findEventById(eventId);
    }

    /** Wait until a message stands in the room and can be read here. */
    async reads(roomId, eventId, text) {
        await until(`${this.person.user} ${this.id} reads “${text}”`, () => {
            const event = this.event(roomId, eventId);
            return event?.getWireType() === "m.room.encrypted" && event.getClearContent()?.body === text;
        });
    }

    /** The ids of a room's messages, if all can be read. */
    decrypted(roomId) {
        const events = this.client.getRoom(roomId).getLiveTimeline().getEvents();
        const messages = events.filter((event) => event.getWireType() === "m.room.encrypted");
        assert.ok(!messages.some((event) => event.isDecryptionFailure()), "some messages cannot be read");
        return messages.map((event) => event.getId()).join(" ");
    }

    /** What it has of its rooms, newest last, and what no answer came to: for the message of a failure. */
    report() {
        const lines = [`${this.person.user} ${this.id}`, ...this.unanswered];
        for (const room of this.client?.getRooms() ?? []) {
            for (const event of room.getLiveTimeline().getEvents()) {
                const failure = event.isDecryptionFailure() ? " (not decrypted)" : "";
                lines.push(`${event.getId()} ${event.getSender()} ${event.getType()}${failure}`);
            }
        }
        return lines.join("\n    ");
    }

    async trusts(user) {
        return (await this.crypto.getUserVerificationStatus(user)).isCrossSigningVerified();
    }
}

async function meet(alice, bob) {
    const { room_id: roomId } = await alice.client.createRoom({
        preset: "private_chat",
        initial_state: [ENCRYPTION],
    });
    await alice.client.invite(roomId, BOB.user);
    await until("the invitation", () => bob.client.getRoom(roomId)?.getMyMembership() === "invite");
    await bob.client.joinRoom(roomId);
    const joined = (device, user) => device.client.getRoom(roomId)?.getMember(user)?.membership === "join";
    await until("bob's join on both sides", () => joined(alice, BOB.user) && joined(bob, ALICE.user));
    await until("encryption", () => bob.client.getRoom(roomId).hasEncryptionStateEvent());
    step("meet in an encrypted room");
    return roomId;
}

async function talk(alice, bob, roomId, messages) {
    for (const [from, to, text] of [
        [alice, bob, "Can you read this?"],
        [bob, alice, "I can. Can you?"],
    ]) {
        const eventId = await from.send(roomId, text);
        await to.reads(roomId, eventId, text);
        messages.push([eventId, text]);
    }
    step("both ways");
}

/** One side of a verification by emoji: what is shown, once the other side was told that it matches. */
function compared(what, verifier) {
    const shown = new Promise((resolve, reject) => {
        verifier.once(VerifierEvent.ShowSas, (sas) => {
            const shown = sas.sas.emoji.map(([emoji]) => emoji).join(" ");
            sas.confirm().then(() => resolve(shown), reject);
        });
        verifier.verify().catch(reject);
    });
    return within(PATIENCE_MS, what, shown);
}

async function tryToVerify(alice, bob, roomId) {
    const incoming = new Promise((resolve) => {
        bob.client.once(CryptoEvent.VerificationRequestReceived, resolve);
    });
    const request = await alice.crypto.requestVerificationDM(BOB.user, roomId);
    try {
        const received = await within(PATIENCE_MS, "the request for a verification", incoming);
        await received.accept();
        await until("the accepted request", () => request.phase === received.phase);
        const starting = await request.startVerification("m.sas.v1");
        const shown = compared("the emoji of who started", starting);
        shown.catch(() => {}); // it may fail before it is waited for
        const answering = await until("the started verification", () => received.verifier);
        assert.deepEqual(await compared("the emoji of who answered", answering), await shown);
        await until("alice trusts bob", () => alice.trusts(BOB.user));
        await until("bob trusts alice", () => bob.trusts(ALICE.user));
    } catch (error) {
        await request.cancel().catch(() => {});
        throw error;
    }
}

async function verify(alice, bob, roomId) {
    try {
        await tryToVerify(alice, bob, roomId);
    } catch (error) {
        // matrix-js-sdk waits until an event of a verification is decrypted, and waits in vain if it was before.
        // That it was is what both sides having all events says; then people ask again.
        console.log("verified at the second try only, after", error.message);
        await until("the same messages on both sides", () => alice.decrypted(roomId) === bob.decrypted(roomId));
        await tryToVerify(alice, bob, roomId);
    }
    step("verify by emoji");
}

/** A new device reads what was written before it was there. */
async function restore(first, roomId, messages, name) {
    await until("the whole backup", async () => (await first.backupOnServer()).count >= 2);
    const device = await Device.login(first.person, name);
    const restored = await device.takeIdentityOver();
    assert.ok(restored.imported >= 2, `${restored.imported} keys were restored`);
    for (const [eventId, text] of messages) await device.reads(roomId, eventId, text);
    step(`${name} reads old messages`);
    return device;
}

async function knowsDevices(observer, user, ...devices) {
    await until(`${observer.person.user} knows the devices of ${user}`, async () => {
        const known = (await observer.crypto.getUserDeviceInfo([user], true)).get(user);
        return known && devices.every((device) => known.has(device.id)) && known.size === devices.length;
    });
}

async function everyone(senders, devices, roomId, name) {
    for (const sender of senders) {
        const text = `From ${sender.id} to all`;
        const eventId = await sender.send(roomId, text);
        for (const device of devices) await device.reads(roomId, eventId, text);
    }
    step(name);
}

async function logOut(gone, left, roomId) {
    const [sender] = left;
    const before = sender.event(roomId, await sender.send(roomId, "Before")).getWireContent().session_id;
    await gone.client.logout(true);
    const devices = left.filter((device) => device.person === gone.person);
    await knowsDevices(sender, gone.person.user, ...devices);
    sender.sent.length = 0;
    const eventId = await sender.send(roomId, "Not for whoever logged out");
    for (const device of left) await device.reads(roomId, eventId, "Not for whoever logged out");
    assert.notEqual(sender.event(roomId, eventId).getWireContent().session_id, before);
    const receivers = sender.sent.flatMap((messages) => Object.keys(messages[gone.person.user] ?? {}));
    assert.ok(receivers.length > 0, "the new key went to nobody");
    assert.ok(!receivers.includes(gone.id), "the new key went to the device that logged out");
    step("no keys for a device that logged out");
}

async function main() {
    const alice = await Device.login(ALICE, "alice 1");
    const bob = await Device.login(BOB, "bob 1");
    await alice.makeIdentity();
    await bob.makeIdentity();
    step("identities");
    const roomId = await meet(alice, bob);
    const messages = [];
    await talk(alice, bob, roomId, messages);
    await verify(alice, bob, roomId);
    const alice2 = await restore(alice, roomId, messages, "alice 2");
    const bob2 = await restore(bob, roomId, messages, "bob 2");
    for (const observer of [bob, bob2]) await knowsDevices(observer, ALICE.user, alice, alice2);
    for (const observer of [alice, alice2]) await knowsDevices(observer, BOB.user, bob, bob2);
    assert.ok((await bob.crypto.getDeviceVerificationStatus(ALICE.user, alice2.id)).crossSigningVerified);
    assert.ok(await alice2.trusts(BOB.user), "the new device does not know whom the first one verified");
    const all = [alice, alice2, bob, bob2];
    await everyone([alice2, bob2, alice], all, roomId, "all devices read each other");
    await logOut(alice, [bob, alice2, bob2], roomId);
    for (const device of [alice2, bob, bob2]) device.client.stopClient();
    step("all");
}

within(WHOLE_MS, "the end", main()).then(
    () => process.exit(0),
    (error) => {
        console.log("not ok", error);
        for (const device of DEVICES) console.log(device.report());
        process.exit(1);
    },
);
