// A matrix-js-sdk client that uses sliding sync sees what another, which does not, does.
//
//   node sliding.mjs BASE_URL
//
// Prints one line a step; ends with status 0 only if all of them succeeded.

import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { step, until } from "./common.mjs";

const BASE_URL = process.argv[2];
const PASSWORD = "correct horse battery";
const ROOM = {
    timeline_limit: 20,
    required_state: [
        ["m.room.create", ""],
        ["m.room.name", ""],
        ["m.room.topic", ""],
        ["m.room.member", "$ME"],
        ["m.room.member", "$LAZY"],
    ],
};

logger.setLevel("error");

/** A new account with a client that does not sync yet. */
async function newClient(localpart) {
    const anonymous = sdk.createClient({ baseUrl: BASE_URL });
    const flows = await anonymous.registerRequest({ username: localpart, password: PASSWORD }).catch((error) => error);
    const auth = { type: "m.login.dummy", session: flows.data.session };
    const login = await anonymous.registerRequest({ username: localpart, password: PASSWORD, auth });
    return sdk.createClient({
        baseUrl: BASE_URL,
        userId: login.user_id,
        accessToken: login.access_token,
        deviceId: login.device_id,
        timelineSupport: true,
    });
}

async function seen(client, roomId, eventId) {
    return until(eventId, () => client.getRoom(roomId)?.findEventById(eventId));
}

const alice = await newClient("alice");
const bob = await newClient("bob");

// Rooms that Alice is in before she opens her client
const rooms = [];
for (const name of ["One", "Two", "Three"]) {
    const { room_id: roomId } = await alice.createRoom({ name, preset: "public_chat" });
    await bob.joinRoom(roomId);
    rooms.push(roomId);
}
const { event_id: first } = await bob.sendTextMessage(rooms[2], "Hello!");

const lists = new Map([["all", { ...ROOM, ranges: [[0, 1]] }]]);
const slidingSync = new SlidingSync(BASE_URL, lists, ROOM, alice, 10_000);
await alice.startClient({ slidingSync, threadSupport: true });
await until("the first answer", () => alice.isInitialSyncComplete());
await seen(alice, rooms[2], first);
assert.equal(slidingSync.getListData("all").joinedCount, 3);
assert.equal(alice.getRoom(rooms[2]).name, "Three");
assert.equal(alice.getRoom(rooms[0]), null);
step("the first page");

slidingSync.setListRanges("all", [[0, 9]]);
await until("all rooms", () => alice.getRoom(rooms[0])?.name === "One");
step("a larger window");

const { event_id: second } = await bob.sendTextMessage(rooms[0], "Are you there?");
assert.equal((await seen(alice, rooms[0], second)).getContent().body, "Are you there?");
assert.equal(alice.getRoom(rooms[0]).getMember(bob.getUserId()).membership, "join");
await until("the count", () => alice.getRoom(rooms[0]).getUnreadNotificationCount("total") === 1);
step("a message");

await alice.setRoomName(rooms[1], "Second");
await until("the new name", () => alice.getRoom(rooms[1]).name === "Second");
step("a change of state");

await bob.sendTyping(rooms[0], true, 20_000);
await until("bob typing", () => alice.getRoom(rooms[0]).getMember(bob.getUserId())?.typing);
const { event_id: own } = await alice.sendTextMessage(rooms[0], "Yes.");
await seen(alice, rooms[0], own);
await bob.sendReceipt(alice.getRoom(rooms[0]).findEventById(own), "m.read");
await until("bob's receipt", () => alice.getRoom(rooms[0]).getEventReadUpTo(bob.getUserId()) === own);
step("typing and receipts");

await alice.setRoomTag(rooms[0], "m.favourite", { order: 0.5 });
await until("the tag", () => alice.getRoom(rooms[0]).tags["m.favourite"]);
await alice.setAccountData("org.example.note", { text: "remember" });
await until("account data", () => alice.getAccountData("org.example.note")?.getContent().text === "remember");
step("account data");

const { room_id: secret } = await bob.createRoom({ name: "Secret", preset: "private_chat", invite: [alice.getUserId()] });
await until("the invite", () => alice.getRoom(secret)?.getMyMembership() === "invite");
await alice.joinRoom(secret);
await until("the join", () => alice.getRoom(secret)?.getMyMembership() === "join");
await until("its name", () => alice.getRoom(secret).name === "Secret");
step("an invite");

await alice.leave(secret);
await until("the leaving", () => alice.getRoom(secret)?.getMyMembership() === "leave");
step("leaving");

const messages = new Map([[alice.getUserId(), new Map([["*", { text: "psst" }]])]]);
let heard = "";
alice.on("toDeviceEvent", (event) => (heard = event.getContent().text ?? heard));
await bob.sendToDevice("org.example.whisper", messages);
await until("the to-device message", () => heard === "psst");
step("to-device messages");

alice.stopClient();
process.exit(0);
