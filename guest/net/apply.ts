/** Carries out the steps of links.ts. */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_WRONLY } from '../lib/constants.ts';
import { describeStep, type Step } from './links.ts';

/** What already is, or already is not: the step's aim is reached. */
const REACHED: Record<Step['do'], string[]> = {
  set: [],
  // A kernel without IPv6 has no such file; an IPv6 address then fails by itself, and says so.
  sysctl: ['ENOENT'],
  // The NIC does not have the feature.
  feature: ['EOPNOTSUPP'],
  'address-add': ['EEXIST'],
  'address-remove': ['EADDRNOTAVAIL'],
  'route-add': ['EEXIST'],
  // Gone with its address, or with the link's going down.
  'route-remove': ['ESRCH', 'ENOENT'],
};

/** Runs steps in order. @throws {GuestError} network-failed, saying which step on which link failed */
export function runSteps(native: Native, steps: Step[]): void {
  runStepsWith(native, steps, '/proc/sys/net');
}

/** {@link runSteps} with the folder of network sysctls. */
export function runStepsWith(native: Native, steps: Step[], sysctls: string): void {
  for (const step of steps) {
    try {
      // The table's key decides the step's type; TypeScript cannot follow that through a union.
      const execute = EXECUTORS[step.do] as (native: Native, step: Step, sysctls: string) => void;
      execute(native, step, sysctls);
    } catch (error) {
      if (REACHED[step.do].some((errno) => hasErrno(error, errno))) continue;
      throw fromNative('network-failed', `link '${step.link}': cannot ${describeStep(step)}`, error);
    }
  }
}

type StepOf<Do extends Step['do']> = Extract<Step, { do: Do }>;

/** What carries out each kind of step; one that is missing does not compile. */
const EXECUTORS: { [Do in Step['do']]: (native: Native, step: StepOf<Do>, sysctls: string) => void } = {
  set: (native, { link, change }) => native.linkSet(link, change),
  sysctl: (native, { link, family, key, value }, sysctls) =>
    writeSysctl(native, `${sysctls}/${family}/conf/${link}/${key}`, value),
  feature: (native, { link, feature, on }) => native.linkFeature(link, feature, on),
  'address-add': (native, { link, address, prefix }) => native.addressAdd(link, address, prefix),
  'address-remove': (native, { link, address, prefix }) => native.addressRemove(link, address, prefix),
  'route-add': (native, { link, route }) =>
    native.routeAdd(link, route.destination, route.prefix, route.gateway, route.metric),
  'route-remove': (native, { link, route }) =>
    native.routeRemove(link, route.destination, route.prefix, route.gateway, route.metric),
};

function writeSysctl(native: Native, path: string, value: string): void {
  const fd = native.open(path, O_WRONLY | O_CLOEXEC, 0);
  try {
    native.write(fd, new TextEncoder().encode(value));
  } finally {
    native.close(fd);
  }
}
