/**
 * The table of errors: every code that a user can meet, what it means, and what helps. It makes three things: the type
 * {@link ErrorCode}, so that a code without a row does not compile; the page docs/troubleshooting.md
 * (`build/node.sh build/docs.ts` writes it); and what `ya-vm explain` says.
 *
 * Only types may be imported from here by what runs at each start: the texts are loaded when they are asked for.
 */
import { ACTIVITY } from './activity.ts';
import { BUS } from './bus.ts';
import { COMMAND } from './command.ts';
import { GPU } from './gpu.ts';
import { GUEST } from './guest.ts';
import { IMAGES } from './images.ts';
import { INITRAMFS } from './initramfs.ts';
import { NETWORKS } from './networks.ts';
import { NODE } from './node.ts';
import { PROGRAM } from './program.ts';
import { PROVIDER } from './provider.ts';
import type { Section } from './section.ts';
import { THIS_HOST } from './this-host.ts';
import { VM } from './vm.ts';

/** In the order of the page: what a newcomer meets comes first. */
const ALL = [
  ...[PROGRAM, COMMAND, IMAGES, THIS_HOST, VM, GPU, NETWORKS, PROVIDER, ACTIVITY, GUEST, BUS, INITRAMFS],
  NODE,
] as const;

/** The codes of all rows. Does a code of yours not compile? Give it a row in a file of host/errors, and make the page. */
export type ErrorCode = (typeof ALL)[number]['rows'][number]['codes'][number];

export const SECTIONS: readonly Section[] = ALL;
