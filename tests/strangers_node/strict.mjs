// npm ocpp-rpc in its strict mode, in each version of the protocol: a CPMS, and a station that lets itself be limited.
// Both validate whatever they send and whatever they are sent against the official schemas, with a validator of their own.
//   node strict.mjs cpms    PORT                    all three versions; serves until its stdin ends
//   node strict.mjs station VERSION URL ID          boots, charges until a limit other than the CPMS's own came, stops
// One JSON object a line goes out: {"ready"}, {"handled": action, "from": id}, {"failed": text}, {"day": what the station lived through}.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { RPCClient, RPCServer, createValidator } = require("ocpp-rpc");
const VERSIONS = ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"];
const PATIENCE_MS = 50_000;
const CPMS_AMPS = 16;
const TAG = "STRICT";

// Its schemas of 2.1 bear names (...Request, ...Response) under which its validator does not look for them (.req, .conf).
const schemas21 = require("ocpp-rpc/lib/schemas/ocpp2_1.json").map((schema) => ({
  ...schema,
  $id: schema.$id.replace(/Request$/, ".req").replace(/Response$/, ".conf"),
}));
const STRICT = { strictMode: true, strictModeValidators: [createValidator("ocpp2.1", schemas21)] };

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const now = () => new Date().toISOString();
const accepted = () => ({ status: "Accepted" });
const later = (ms) => new Promise((done) => setTimeout(done, ms));

const watch = (peer, id) => peer.on("strictValidationFailure", (event) => say({ failed: `${id}: ${event.error}` }));

// ---------------------------------------------------------------- the CPMS

const empty = () => ({});
const BOTH = {
  BootNotification: () => ({ status: "Accepted", currentTime: now(), interval: 300 }),
  StatusNotification: empty,
  MeterValues: empty,
};
const ANSWERS = {
  "ocpp1.6": {
    ...BOTH,
    Authorize: () => ({ idTagInfo: accepted() }),
    StartTransaction: () => ({ transactionId: 4712, idTagInfo: accepted() }),
    StopTransaction: empty,
  },
  2: { ...BOTH, Authorize: () => ({ idTokenInfo: accepted() }), TransactionEvent: () => ({ idTokenInfo: accepted() }) },
};

function ownLimit(version) {
  const chargingSchedulePeriod = [{ startPeriod: 0, limit: CPMS_AMPS }];
  const profile = { stackLevel: 0, chargingProfilePurpose: "TxDefaultProfile", chargingProfileKind: "Relative" };
  const chargingSchedule = { chargingRateUnit: "A", chargingSchedulePeriod };
  return version === "ocpp1.6"
    ? { connectorId: 0, csChargingProfiles: { chargingProfileId: 1, ...profile, chargingSchedule } }
    : { evseId: 0, chargingProfile: { id: 1, ...profile, chargingSchedule: [{ id: 1, ...chargingSchedule }] } };
}

async function cpms(port) {
  const server = new RPCServer({ protocols: VERSIONS, ...STRICT });
  server.on("client", (client) => {
    const { protocol: version, identity: id } = client;
    watch(client, id);
    for (const [action, answer] of Object.entries(ANSWERS[version] ?? ANSWERS[2]))
      client.handle(action, () => {
        say({ handled: action, from: id });
        if (action === "BootNotification")
          setTimeout(() => client.call("SetChargingProfile", ownLimit(version)).catch((error) => say({ failed: `${id}: ${error}` })), 50);
        return answer();
      });
    client.handle(({ method }) => {
      say({ failed: `${id}: the CPMS was asked ${method}` });
      return {};
    });
  });
  process.stdin.on("end", () => process.exit(0)).resume();
  await server.listen(port, "127.0.0.1");
  say({ ready: true });
}

// ---------------------------------------------------------------- the station

const KNOWN = {
  ChargeProfileMaxStackLevel: "5", ChargingScheduleAllowedChargingRateUnit: "Current", // 1.6
  ProfileStackLevel: "5", RateUnit: "A,W", PeriodsPerSchedule: "10", // 2.0.1 and 2.1
};

function composite(version, asked) {
  const plan = { duration: asked.duration, chargingRateUnit: "A", chargingSchedulePeriod: [{ startPeriod: 0, limit: CPMS_AMPS }] };
  return version === "ocpp1.6"
    ? { status: "Accepted", connectorId: asked.connectorId, scheduleStart: now(), chargingSchedule: plan }
    : { status: "Accepted", schedule: { evseId: asked.evseId, scheduleStart: now(), ...plan } };
}

function willing(version, profiles) {
  return {
    GetConfiguration: ({ key }) => ({
      configurationKey: (key ?? []).filter((one) => one in KNOWN).map((one) => ({ key: one, readonly: true, value: KNOWN[one] })),
      unknownKey: (key ?? []).filter((one) => !(one in KNOWN)),
    }),
    GetVariables: ({ getVariableData }) => ({
      getVariableResult: getVariableData.map(({ component, variable }) => {
        const value = KNOWN[variable.name];
        return value === undefined
          ? { attributeStatus: "UnknownVariable", component, variable }
          : { attributeStatus: "Accepted", attributeValue: value, component, variable };
      }),
    }),
    GetCompositeSchedule: (asked) => composite(version, asked),
    SetChargingProfile: (asked) => {
      profiles.push(asked.csChargingProfiles ?? asked.chargingProfile);
      return accepted();
    },
    ClearChargingProfile: accepted,
  };
}

function speaks(version, id, ask) {
  const samples = (value, unit) => (value.map(([number, measurand, name]) => ({ ...unit(number, name), measurand })));
  const readings = (wh, watts) => [[wh, "Energy.Active.Import.Register", "Wh"], [watts, "Power.Active.Import", "W"]];
  if (version === "ocpp1.6") {
    const sampled = (wh, watts) => samples(readings(wh, watts), (number, unit) => ({ value: String(number), unit }));
    return {
      boot: () => ask("BootNotification", { chargePointVendor: "Stranger", chargePointModel: "Strict" }),
      status: () => ask("StatusNotification", { connectorId: 1, errorCode: "NoError", status: "Available", timestamp: now() }),
      authorize: () => ask("Authorize", { idTag: TAG }),
      start: async (wh) =>
        (await ask("StartTransaction", { connectorId: 1, idTag: TAG, meterStart: wh, timestamp: now() })).transactionId,
      measure: (transactionId, wh, watts) =>
        ask("MeterValues", { connectorId: 1, transactionId, meterValue: [{ timestamp: now(), sampledValue: sampled(wh, watts) }] }),
      stop: (transactionId, wh) => ask("StopTransaction", { transactionId, meterStop: wh, timestamp: now(), reason: "EVDisconnected" }),
    };
  }
  let seqNo = 0;
  const idToken = { idToken: TAG, type: "ISO14443" };
  const sampled = (wh, watts) => samples(readings(wh, watts), (value, unit) => ({ value, unitOfMeasure: { unit } }));
  const event = (eventType, triggerReason, transactionId, wh, watts, more = {}) =>
    ask("TransactionEvent", {
      eventType, triggerReason, timestamp: now(), seqNo: seqNo++, ...more,
      transactionInfo: { transactionId, chargingState: eventType === "Ended" ? "Idle" : "Charging" },
      meterValue: [{ timestamp: now(), sampledValue: sampled(wh, watts) }],
    });
  return {
    boot: () => ask("BootNotification", { reason: "PowerUp", chargingStation: { vendorName: "Stranger", model: "Strict" } }),
    status: () => ask("StatusNotification", { timestamp: now(), connectorStatus: "Available", evseId: 1, connectorId: 1 }),
    authorize: () => ask("Authorize", { idToken }),
    start: async (wh) => {
      await event("Started", "Authorized", `${id}-1`, wh, 0, { idToken, evse: { id: 1, connectorId: 1 } });
      return `${id}-1`;
    },
    measure: (transaction, wh, watts) => event("Updated", "MeterValuePeriodic", transaction, wh, watts),
    stop: (transaction, wh) => event("Ended", "EVDeparted", transaction, wh, 0),
  };
}

async function station(version, endpoint, identity) {
  const client = new RPCClient({ endpoint, identity, protocols: [version], ...STRICT, reconnect: false });
  watch(client, identity);
  const profiles = [], handled = [];
  for (const [action, answer] of Object.entries(willing(version, profiles)))
    client.handle(action, ({ params }) => {
      handled.push(action);
      return answer(params);
    });
  await client.connect();
  const does = speaks(version, identity, (action, payload) => client.call(action, payload));
  let wh = 1000;
  await does.boot();
  await does.status();
  await does.authorize();
  const transaction = await does.start(wh);
  const limited = () => profiles.some((profile) => (profile.id ?? profile.chargingProfileId) !== 1);
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end && !(limited() && wh > 1200); await later(500))
    await does.measure(transaction, (wh += 50), 11000);
  await does.stop(transaction, wh);
  say({ day: { protocol: client.protocol, profiles, handled, transaction, wh } });
  await client.close();
}

const [side, ...told] = process.argv.slice(2);
try {
  if (side === "cpms") await cpms(Number(told[0]));
  else {
    await station(...told);
    process.exit(0);
  }
} catch (error) {
  say({ failed: String(error && error.stack ? error.stack : error) });
  process.exit(1);
}
