// Stations and management systems of stacks that know nothing of the broker. OCPP 1.6, through one boot, authorize,
// transaction and meter values.
//   node stranger.mjs cpms    ocpp-rpc|ocpp-ts|ts-ocpp PORT     serves until its stdin ends
//   node stranger.mjs station ocpp-rpc|ocpp-ts|ts-ocpp URL ID   lives a day and ends
// One JSON object a line goes out: {"ready": true}, {"handled": action}, {"day": answers}, {"failed": text}.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const now = () => new Date().toISOString();

const ANSWERS = {
  BootNotification: () => ({ status: "Accepted", currentTime: now(), interval: 300 }),
  Heartbeat: () => ({ currentTime: now() }),
  Authorize: () => ({ idTagInfo: { status: "Accepted" } }),
  StartTransaction: () => ({ transactionId: 4711, idTagInfo: { status: "Accepted" } }),
  StopTransaction: () => ({ idTagInfo: { status: "Accepted" } }),
  StatusNotification: () => ({}),
  MeterValues: () => ({}),
};

const handled = (action) => {
  say({ handled: action });
  return ANSWERS[action]();
};

const CPMS = {
  async "ocpp-rpc"(port) {
    const { RPCServer } = require("ocpp-rpc");
    const server = new RPCServer({ protocols: ["ocpp1.6"], strictMode: true });
    server.on("client", (client) => {
      client.on("strictValidationFailure", (event) => say({ failed: String(event.error) }));
      for (const action of Object.keys(ANSWERS)) client.handle(action, () => handled(action));
    });
    await server.listen(port, "127.0.0.1");
  },
  async "ocpp-ts"(port) {
    const { OcppServer } = require("ocpp-ts");
    const server = new OcppServer();
    server.on("connection", (client) => {
      for (const action of Object.keys(ANSWERS)) client.on(action, (_, answer) => answer(handled(action)));
    });
    const { Server } = require("node:net"); // it listens everywhere, and takes any option for one of TLS
    const listen = Server.prototype.listen;
    Server.prototype.listen = function (port) { return listen.call(this, port, "127.0.0.1"); };
    server.listen(port);
  },
  async "ts-ocpp"(port) {
    const { CentralSystem } = require("@voltbras/ts-ocpp");
    const answer = ({ action, ocppVersion }) => ({ action, ocppVersion, ...handled(action) });
    new CentralSystem(port, answer, { host: "127.0.0.1", rejectInvalidRequests: true });
  },
};

// Each gives a function that sends one CALL and returns its answer, and one that hangs up.
const STATIONS = {
  async "ocpp-rpc"(url, identity) {
    const { RPCClient } = require("ocpp-rpc");
    const client = new RPCClient({ endpoint: url, identity, protocols: ["ocpp1.6"], strictMode: true, reconnect: false });
    client.on("strictValidationFailure", (event) => say({ failed: String(event.error) }));
    await client.connect();
    return [(action, payload) => client.call(action, payload), () => client.close()];
  },
  async "ocpp-ts"(url, identity) {
    const { OcppClient } = require("ocpp-ts");
    const client = new OcppClient(identity);
    client.on("error", (error) => say({ failed: String(error) }));
    const connected = new Promise((done) => client.on("connect", done));
    client.connect(url + "/");
    await connected;
    return [(action, payload) => client.callRequest(action, payload), () => process.exit(0)];
  },
  async "ts-ocpp"(url, identity) {
    const { ChargePoint } = require("@voltbras/ts-ocpp");
    const station = new ChargePoint(identity, () => { throw new Error("not expected"); }, url);
    await station.connect();
    const call = async (action, payload) =>
      (await station.sendRequest({ action, ocppVersion: "v1.6-json", payload })).unsafeCoerce();
    return [call, () => station.close()];
  },
};

async function day([call, hangUp]) {
  const answers = {};
  const ask = async (action, payload) => (answers[action] = await call(action, payload));
  await ask("BootNotification", { chargePointVendor: "Stranger", chargePointModel: "Node" });
  await ask("StatusNotification", { connectorId: 1, errorCode: "NoError", status: "Available", timestamp: now() });
  await ask("Authorize", { idTag: "NODE" });
  const start = await ask("StartTransaction", { connectorId: 1, idTag: "NODE", meterStart: 1000, timestamp: now() });
  const transactionId = start.transactionId;
  const sampledValue = [
    { value: "1100", measurand: "Energy.Active.Import.Register", unit: "Wh" },
    { value: "7000", measurand: "Power.Active.Import", unit: "W" },
  ];
  await ask("MeterValues", { connectorId: 1, transactionId, meterValue: [{ timestamp: now(), sampledValue }] });
  await ask("StopTransaction", { transactionId, idTag: "NODE", meterStop: 1200, timestamp: now(), reason: "Local" });
  say({ day: answers });
  await hangUp();
}

const [side, stack, where, identity] = process.argv.slice(2);
try {
  if (side === "cpms") {
    process.stdin.on("end", () => process.exit(0)).resume();
    await CPMS[stack](Number(where));
    say({ ready: true });
  } else {
    await day(await STATIONS[stack](where, identity));
    process.exit(0);
  }
} catch (error) {
  say({ failed: String(error && error.stack ? error.stack : error) });
  process.exit(1);
}
