/** The agreement that a supervisor gets as a file, in the nested form that ya-provider writes (exe-unit.md 7.1). Pure. */
import { randomBytes } from 'node:crypto';

/** What a provider and a requestor agreed on, as far as a supervisor or its price is concerned. */
export interface AgreementTerms {
  /** Default: a random one, 64 hexadecimal digits. */
  id?: string;
  requestorId: string;
  providerId: string;
  /** Names of the counters, in the order of the usage reports. */
  usageVector: readonly string[];
  /** One a counter, and the price of the start; see costOf. Default: all 0. */
  coefficients?: readonly number[];
  /** GiB and numbers, as the offer has them: not rounded. */
  limits: { memoryGib: number; storageGib: number; cores: number; threads?: number };
  /** `hash:sha3:<hex>:<url>`. */
  taskPackage?: string;
  /** A computation manifest's payload. */
  manifest?: string;
  /** Of the runtime: `vpn`, `inet`, … Default none. */
  capabilities?: readonly string[];
  /** Default now. */
  time?: Date;
}

/** Milliseconds from its start to an agreement's end: the real one's 30 min. */
const VALID_FOR = 30 * 60_000;

/** A new agreement's id. */
export function newAgreementId(): string {
  return randomBytes(32).toString('hex');
}

/** The file's content, to be written as JSON. */
export function buildAgreement(terms: AgreementTerms): Record<string, unknown> {
  const { id = newAgreementId(), requestorId, providerId, time = new Date() } = terms;
  const timestamp = time.toISOString();
  const validTo = new Date(time.getTime() + VALID_FOR);
  return {
    agreementId: id,
    demand: {
      constraints: '(&(golem.runtime.name=vm))',
      demandId: `${id}-demand`,
      properties: { golem: { srv: { comp: demandOf(terms, validTo) } } },
      requestorId,
      timestamp,
    },
    offer: {
      constraints: '()',
      offerId: `${id}-offer`,
      properties: { golem: offerOf(terms) },
      providerId,
      timestamp,
    },
    proposedSignature: 'NoSignature',
    state: 'Approved',
    timestamp,
    validTo: validTo.toISOString(),
  };
}

function demandOf({ taskPackage, manifest }: AgreementTerms, validTo: Date): Record<string, unknown> {
  return {
    expiration: validTo.getTime(),
    ...(taskPackage === undefined ? {} : { task_package: taskPackage }),
    ...(manifest === undefined ? {} : { payload: manifest }),
  };
}

function offerOf(terms: AgreementTerms): Record<string, unknown> {
  const { usageVector, limits, capabilities = [] } = terms;
  const coeffs = terms.coefficients ?? [...usageVector.map(() => 0), 0];
  return {
    activity: {
      caps: {
        deploy: { 'report-progress': true },
        transfer: { protocol: ['http', 'https', 'gftp'], 'report-progress': true },
      },
    },
    com: {
      pricing: { model: { '@tag': 'linear', linear: { coeffs } } },
      scheme: 'payu',
      usage: { vector: usageVector },
    },
    inf: {
      cpu: { architecture: 'x86_64', cores: limits.cores, threads: limits.threads ?? limits.cores },
      mem: { gib: limits.memoryGib },
      storage: { gib: limits.storageGib },
    },
    runtime: { capabilities, name: 'vm', version: '0.1.0' },
    srv: { caps: { 'multi-activity': true, 'payload-manifest': terms.manifest !== undefined } },
  };
}
