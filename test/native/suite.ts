/** The addon's test suite: the same cases under Node and under the guest's engine. */
import { bulkCases } from './cases/bulk.ts';
import { cborCases } from './cases/cbor.ts';
import { channelCases } from './cases/channel.ts';
import { faceCases } from './cases/face.ts';
import { fileCases } from './cases/file.ts';
import { mountCases } from './cases/mount.ts';
import { netlinkCases } from './cases/netlink.ts';
import { pathCases } from './cases/path.ts';
import { processCases } from './cases/process.ts';
import { sinkCases } from './cases/sink.ts';
import { sourceCases } from './cases/source.ts';
import { sourcePagesCases } from './cases/source-pages.ts';
import { spawnCases } from './cases/spawn.ts';
import { fuzzCases } from './cases/stream-fuzz.ts';
import { loadCases } from './cases/stream-load.ts';
import { systemCases } from './cases/system.ts';
import { watchCases } from './cases/watch.ts';
import type { Case } from './harness.ts';

export const cases: Case[] = [
  ...faceCases,
  ...pathCases,
  ...fileCases,
  ...bulkCases,
  ...watchCases,
  ...spawnCases,
  ...processCases,
  ...mountCases,
  ...netlinkCases,
  ...systemCases,
  ...cborCases,
  ...channelCases,
  ...sourceCases,
  ...sourcePagesCases,
  ...sinkCases,
  ...loadCases,
  ...fuzzCases,
];
