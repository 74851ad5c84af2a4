// Two matrix-js-sdk clients chat; what one does, the other has to see by sync.
//
//   node chat.mjs BASE_URL
//
// Prints one line a step; ends with status 0 only if all of them succeeded.

import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { step, until } from "./common.mjs";

const BASE_URL = process.argv[2];
const PASSWORD = "correct horse battery";

logger.setLevel("error");

/** A new account, logged in on a second device, its sync loop running. */
async function startedClient(localpart) {
    const anonymous = sdk.createClient({ baseUrl: BASE_URL });
    const flows = await anonymous.registerRequest({ username: localpart, password: PASSWORD }).catch((error) => error);
    assert.equal(flows.httpStatus, 401);
    assert.ok(flows.data.flows.some((flow) => flow.stages.includes("m.login.dummy")));
    const auth = { type: "m.login.dummy", session: flows.data.session };
    await anonymous.registerRequest({ username: localpart, password: PASSWORD, auth });
    const login = await anonymous.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: localpart },
        password: PASSWORD,
        initial_device_display_name: "js-sdk",
    });
    const client = sdk.createClient({
        baseUrl: BASE_URL,
        userId: login.user_id,
        accessToken: login.access_token,
        deviceId: login.device_id,
        timelineSupport: true,
    });
    await client.startClient({ initialSyncLimit: 20, threadSupport: true, lazyLoadMembers: true });
    await until(`first sync of ${localpart}`, () => client.isInitialSyncComplete());
    return client;
}

function eventIn(client, roomId, eventId) {
    return client.getRoom(roomId)?.findEventById(eventId);
}

async function seen(client, roomId, eventId) {
    return until(eventId, () => eventIn(client, roomId, eventId));
}

async function meet(alice, bob) {
    const { room_id: roomId } = await alice.createRoom({ name: "Plans", topic: "What to do", preset: "private_chat" });
    await alice.invite(roomId, bob.getUserId());
    await until("the invitation", () => bob.getRoom(roomId)?.getMyMembership() === "invite");
    step("invite");
    await bob.joinRoom(roomId);
    await until("bob's own join", () => bob.getRoom(roomId)?.getMyMembership() === "join");
    await until("bob among the members", () => alice.getRoom(roomId)?.getMember(bob.getUserId())?.membership === "join");
    await until("the room's name", () => bob.getRoom(roomId).name === "Plans");
    step("join");
    return roomId;
}

async function talk(alice, bob, roomId) {
    const { event_id: question } = await alice.sendTextMessage(roomId, "Lunch?");
    assert.equal((await seen(bob, roomId, question)).getContent().body, "Lunch?");
    step("send");

    await alice.sendEvent(roomId, "m.room.message", {
        "msgtype": "m.text",
        "body": "* Lunch at noon?",
        "m.new_content": { msgtype: "m.text", body: "Lunch at noon?" },
        "m.relates_to": { rel_type: "m.replace", event_id: question },
    });
    await until("the edit", () => eventIn(bob, roomId, question).getContent().body === "Lunch at noon?");
    step("edit");

    await bob.sendEvent(roomId, "m.reaction", {
        "m.relates_to": { rel_type: "m.annotation", event_id: question, key: "👍" },
    });
    const reactions = await until("the reaction", () =>
        alice.getRoom(roomId).relations.getChildEventsForEvent(question, "m.annotation", "m.reaction"),
    );
    await until("its key", () => reactions.getSortedAnnotationsByKey()?.[0]?.[0] === "👍");
    step("react");

    const { event_id: reply } = await bob.sendEvent(roomId, question, "m.room.message", {
        msgtype: "m.text",
        body: "Which place?",
    });
    const thread = await until("the thread", () => alice.getRoom(roomId).getThread(question));
    await until("the reply in it", () => thread.findEventById(reply));
    await alice.sendEvent(roomId, question, "m.room.message", { msgtype: "m.text", body: "The one at the corner" });
    await until("two replies", () => bob.getRoom(roomId).getThread(question)?.length === 2);
    step("thread");

    const { event_id: mistake } = await bob.sendTextMessage(roomId, "Not for you");
    await seen(alice, roomId, mistake);
    await bob.redactEvent(roomId, mistake, undefined, { reason: "sent to the wrong room" });
    await until("the redaction", () => eventIn(alice, roomId, mistake).isRedacted());
    assert.deepEqual(eventIn(alice, roomId, mistake).getContent(), {});
    step("redact");
    return question;
}

async function typingAndReceipts(alice, bob, roomId, eventId) {
    await alice.sendTyping(roomId, true, 10_000);
    await until("typing", () => bob.getRoom(roomId).getMember(alice.getUserId())?.typing);
    step("typing");
    const last = bob.getRoom(roomId).getLiveTimeline().getEvents().at(-1);
    await bob.sendReadReceipt(last);
    await until("the receipt", () => alice.getRoom(roomId).hasUserReadEvent(bob.getUserId(), eventId));
    step("receipt");
}

/** A third device, which has seen only the newest events, pages back to the first. */
async function pageBack(bob, roomId) {
    for (let number = 0; number < 30; number++) await bob.sendTextMessage(roomId, `message ${number}`);
    const anonymous = sdk.createClient({ baseUrl: BASE_URL });
    const login = await anonymous.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: bob.getUserId() },
        password: PASSWORD,
    });
    const device = sdk.createClient({
        baseUrl: BASE_URL,
        userId: login.user_id,
        accessToken: login.access_token,
        deviceId: login.device_id,
    });
    await device.startClient({ initialSyncLimit: 3, lazyLoadMembers: true });
    try {
        const room = await until("the room on another device", () => device.getRoom(roomId));
        while (room.oldState.paginationToken !== null) await device.scrollback(room, 10);
        const events = room.getLiveTimeline().getEvents();
        const ids = events.map((event) => event.getId());
        assert.equal(new Set(ids).size, ids.length);
        assert.equal(events[0].getType(), "m.room.create");
        const bodies = events.map((event) => event.getContent().body).filter((body) => body?.startsWith("message "));
        assert.deepEqual(bodies, Array.from({ length: 30 }, (_, number) => `message ${number}`));
        step("page back");
    } finally {
        device.stopClient();
    }
}

const alice = await startedClient("js-alice");
const bob = await startedClient("js-bob");
step("register and login");
try {
    const roomId = await meet(alice, bob);
    const question = await talk(alice, bob, roomId);
    await typingAndReceipts(alice, bob, roomId, question);
    await pageBack(bob, roomId);
} finally {
    alice.stopClient();
    bob.stopClient();
}
step("all");
process.exit(0); // timers of the library would keep the process for a while
