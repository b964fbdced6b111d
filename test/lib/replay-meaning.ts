/**
 * What a conversation between a supervisor and its bus means: the same for two that differ only in times, figures, ids
 * and the order of what has none.
 */
import { createHash } from 'node:crypto';
import { decodeBody, type Flex, flexMap, type Packet } from '../../host/gsb/index.ts';
import { meaning } from './flex-meaning.ts';
import { type CallStep, isFrame, isOutward, isReport, type Step } from './replay-recording.ts';

type Json = null | boolean | number | string | undefined | readonly Json[] | { readonly [key: string]: Json };
type Reply = Extract<Packet, { kind: 'callReply' }>;

export type ConversationMeaning = {
  hellos: number;
  /** A set: their order is a hash's. */
  registered: string[];
  unregistered: string[];
  states: Json[];
  /** Each form that they had: all vectors of an activity are alike. */
  usage: Json[];
  /** Calls to requestors' files and for the node's identity, in their order. */
  outward: Json[];
  /** Frames to peers, in their order. */
  frames: Json[];
  /** By the call: its number among the calls to the supervisor, message and batch. */
  answers: Record<string, Json>;
  streams: Record<string, Record<string, Json>>;
  /** By the call: how many states were reported before a batch was accepted. */
  statesBefore: Record<string, number>;
  pongs: number;
};

/** A call to the supervisor, with what came back. */
interface Call {
  name: string;
  streams: boolean;
  replies: Reply[];
}

/** @param vector Names of the counters. */
export function meaningOf(conversation: readonly Step[], vector: readonly string[]): ConversationMeaning {
  const sent = conversation.flatMap(({ from, packet }) => (from === 'exe-unit' && packet ? [packet] : []));
  const calls = callsOf(conversation);
  const usage = sent
    .filter((packet) => isReport(packet, 'Usage'))
    .map((packet) => JSON.stringify(reportMeaning(packet, vector)));
  return {
    hellos: sent.filter(({ kind }) => kind === 'hello').length,
    registered: serviceIds(sent, 'registerRequest'),
    unregistered: serviceIds(sent, 'unregisterRequest'),
    states: sent.filter((packet) => isReport(packet, 'State')).map((packet) => reportMeaning(packet, vector)),
    usage: [...new Set(usage)].map((text) => JSON.parse(text)),
    outward: sent.filter(isOutward).map(outwardMeaning),
    frames: sent.filter(isFrame).map(frameMeaning),
    answers: Object.fromEntries(
      calls
        .filter(({ streams }) => !streams)
        .map(({ name, replies }) => [name, answerMeaning(replies, vector)]),
    ),
    streams: Object.fromEntries(
      calls.filter(({ streams }) => streams).map(({ name, replies }) => [name, streamMeaning(replies)]),
    ),
    statesBefore: statesBefore(conversation),
    pongs: sent.filter(({ kind }) => kind === 'pong').length,
  };
}

/** What a stream's replies tell: by command, each kind of event; outputs joined, however they were cut. */
export function streamMeaning(replies: readonly Reply[]): Record<string, Json> {
  const told: Record<string, Json> = { end: 'open' };
  for (const reply of replies) {
    if (reply.replyType === 'full') {
      told.end = endMeaning(reply);
      continue;
    }
    const { index, kind, ...rest } = read(reply.data).Ok as Record<string, Json>;
    const [name, value] = Object.entries(kind as Record<string, Json>)[0] as [string, Json];
    const key = `${index} ${name}`;
    const before = told[key];
    told[`${index} of`] = normalize(rest);
    if (name === 'progress') told[key] = [...((before ?? []) as Json[]), normalize(value)];
    else if (typeof before === 'string') told[key] = before + value;
    else if (Array.isArray(before)) told[key] = [...before, ...(value as Json[])];
    else told[key] = normalize(value);
  }
  return told;
}

/** Replies to each call to the supervisor. */
export function callsOf(conversation: readonly Step[]): Call[] {
  const calls = new Map<string, Call>();
  for (const { from, packet } of conversation) {
    if (from === 'router' && packet?.kind === 'callRequest') {
      const message = packet.address.slice(packet.address.lastIndexOf('/') + 1);
      const body = message === 'raw' ? {} : read(packet.data);
      const { batchId = '', batch_id = batchId } = body as Record<string, string>;
      const name = `${calls.size} ${message} ${batch_id}`.trim();
      calls.set(packet.requestId, { name, streams: message.startsWith('Stream'), replies: [] });
    }
    if (from === 'exe-unit' && packet?.kind === 'callReply')
      calls.get(packet.requestId)?.replies.push(packet);
  }
  return [...calls.values()];
}

/** In which order a stream told of the begins, outputs and ends of its commands. */
export function streamOrder({ replies }: Call): string[] {
  const order: string[] = [];
  for (const { replyType, data } of replies) {
    if (replyType === 'full') continue;
    const { index, kind } = read(data).Ok as { index: number; kind: object };
    const [name = ''] = Object.keys(kind);
    const key = `${index} ${/^std/.test(name) ? 'output' : name}`;
    if (!order.includes(key)) order.push(key);
  }
  return order;
}

export interface Difference {
  /** Names joined by slashes: `states/3/state/reason`. */
  path: string;
  theirs: Json;
  ours: Json;
}

/** What is not the same, as small as it can be told. */
export function differences(theirs: Json, ours: Json, path = ''): Difference[] {
  if (isObject(theirs) && isObject(ours) && Array.isArray(theirs) === Array.isArray(ours)) {
    const keys = new Set([...Object.keys(theirs), ...Object.keys(ours)]);
    return [...keys].flatMap((key) =>
      differences(theirs[key], ours[key], path === '' ? key : `${path}/${key}`),
    );
  }
  return theirs === ours ? [] : [{ path, theirs, ours }];
}

// ---------------------------------------------------------------- inside

const isObject = (value: Json): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null;

function read(data: Uint8Array): Record<string, Json> {
  return meaning(decodeBody(data) as Flex) as Record<string, Json>;
}

/** Other answers come beside the states; Exec's comes before the first state that its batch leads to. */
function statesBefore(conversation: readonly Step[]): Record<string, number> {
  const names = new Map(callsOf(conversation).map(({ name, replies }) => [replies[0], name]));
  const before: Record<string, number> = {};
  let states = 0;
  for (const { from, packet } of conversation) {
    if (from !== 'exe-unit' || packet === undefined) continue;
    if (isReport(packet, 'State')) states++;
    const name = packet.kind === 'callReply' ? names.get(packet) : undefined;
    if (name?.includes(' Exec ')) before[name] = states;
  }
  return before;
}

function serviceIds(packets: readonly Packet[], kind: 'registerRequest' | 'unregisterRequest'): string[] {
  return packets.flatMap((packet) => (packet.kind === kind ? [packet.serviceId] : [])).sort();
}

function reportMeaning(packet: Packet, vector: readonly string[]): Json {
  const { caller, address, data, noReply } = packet as Extract<Packet, { kind: 'callRequest' }>;
  return { caller, address, noReply, ...(withUsage(normalize(read(data)), vector) as object) };
}

/** Content by its length and hash. */
function outwardMeaning({ caller, address, noReply, data }: CallStep): Json {
  const body = decodeBody(data);
  const chunk = flexMap(flexMap(body)?.chunk);
  if (!(chunk?.content instanceof Uint8Array)) {
    return { caller, address, noReply, body: meaning(body) as Json };
  }
  const { offset, content } = chunk;
  const hash = createHash('sha3-256').update(content).digest('hex');
  return { caller, address, noReply, offset: meaning(offset ?? null) as Json, length: content.length, hash };
}

function frameMeaning({ caller, address, noReply, data }: CallStep): Json {
  return { caller, address, noReply, frame: Buffer.from(data).toString('hex') };
}

function answerMeaning(replies: readonly Reply[], vector: readonly string[]): Json {
  const [reply, ...more] = replies;
  if (reply === undefined) return 'none';
  if (more.length > 0 || reply.replyType !== 'full') return `${replies.length} replies`;
  if (reply.code !== 0 || reply.data.length === 0) return endMeaning(reply);
  return withUsage(normalize(read(reply.data)), vector);
}

function endMeaning({ code, data }: Reply): string {
  const text = Buffer.from(data).toString();
  return code === 0 && text === '' ? 'end' : `${code} ${withoutCode(text)}`;
}

const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
const LOCAL_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$/;

/** Without times; their forms are checked. */
function normalize(value: Json, key = ''): Json {
  if (typeof value === 'string') {
    if (key === 'eventDate' && INSTANT.test(value)) return 'an instant';
    if (key === 'timestamp' && LOCAL_TIME.test(value)) return 'a time without zone';
    return withoutCode(value);
  }
  if (key === 'timestamp' && Number.isInteger(value)) return 'seconds';
  if (!isObject(value)) return value;
  if (Array.isArray(value)) return value.map((item) => normalize(item));
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, normalize(item, name)]));
}

/** Our error codes stand behind the texts of the wire catalogue. */
function withoutCode(text: string): string {
  return text.replace(/ \(YAVM_E_\w+\)/g, '');
}

/** Figures of known counters are left out; custom ones are what the runtime said. */
function withUsage(value: Json, vector: readonly string[]): Json {
  if (!isObject(value)) return value;
  if (Array.isArray(value)) return value.map((item) => withUsage(item, vector));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      key === 'currentUsage' && Array.isArray(item)
        ? item.map((figure, index) => (vector[index]?.startsWith('golem.usage.') ? typeof figure : figure))
        : withUsage(item, vector),
    ]),
  );
}
