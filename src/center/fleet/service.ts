import type {
  CenterService,
  WatchInstancesResponse,
  WatchMachinesResponse,
} from '../../../generated/muster/v1/center.js';
import { Instance, Machine as WireMachine } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../kit/errors.js';
import type { InstanceReport } from '../../model/instance.js';
import { matches, parseSelector, requireKnown, type Selectable, type Selector } from '../../model/selector.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { Handlers } from '../../rpc/types.js';
import { watchValues } from '../changes.js';
import { pageOf } from '../../model/paging.js';
import type { Directory } from './directory.js';
import type { Instances, InstanceView } from './instances.js';
import type { Machine, Machines } from './machines.js';
import { unknownService } from './unknown.js';
import { toWireInstanceView, toWireMachine } from './wire.js';

export type FleetHandlers = Pick<
  Handlers<typeof CenterService>,
  | 'listMachines'
  | 'getMachine'
  | 'watchMachines'
  | 'updateMachine'
  | 'removeMachine'
  | 'listInstances'
  | 'getInstance'
  | 'watchInstances'
>;

export interface FleetParts {
  readonly machines: Machines;
  readonly instances: Instances;
  readonly directory: Directory;
  /** Forgets a machine everywhere and cuts it off. */
  readonly removeMachine: (machine: Machine, by: string) => Promise<void>;
  /** Gives the machine what selectors now say. */
  readonly labelsChanged: (machine: string) => Promise<void>;
  /** @throws not_found naming the nearest module */
  readonly requireModuleName: (name: string) => void;
}

/** Values of one frame of a watch. */
const MACHINES_PER_FRAME = 50;
const INSTANCES_PER_FRAME = 25;

function selectorOf(text: string, machines: Machines): Selector {
  const selector = parseSelector(text);
  requireKnown(selector, machines.records());
  return selector;
}

/** An instance of a machine that is gone matches nothing. */
function selected(selector: Selector, machine: Selectable | undefined): boolean {
  return machine !== undefined && matches(selector, machine);
}

/** Whether the instance runs from that version, and from a release that pins that module. */
function runs(
  { version, release }: InstanceReport,
  wish: { readonly version: string; readonly module: string; readonly moduleVersion: string },
): boolean {
  if (wish.version !== '' && wish.version !== version) return false;
  if (wish.module === '') return true;
  const pin = release?.ref.modules.find(({ name }) => name === wish.module);
  return pin !== undefined && (wish.moduleVersion === '' || pin.version === wish.moduleVersion);
}

/** Machines and instances. */
export function fleetHandlers(parts: FleetParts): FleetHandlers {
  return { ...machineHandlers(parts), ...instanceHandlers(parts) };
}

function machineHandlers({
  machines,
  instances,
  removeMachine,
  labelsChanged,
}: FleetParts): Pick<
  FleetHandlers,
  'listMachines' | 'getMachine' | 'watchMachines' | 'updateMachine' | 'removeMachine'
> {
  const toWire = (machine: Machine): WireMachine => toWireMachine(machine, instances.countOf(machine.record.id));
  const order = (machine: Machine): string => `${machine.record.name}\n${machine.record.id}`;
  return {
    listMachines: (request) => {
      const selector = selectorOf(request.selector, machines);
      const wanted = machines.list().filter(({ record }) => matches(selector, record));
      const page = pageOf(
        wanted,
        { size: request.pageSize, token: request.pageToken },
        { keyOf: order, weightOf: (machine) => WireMachine.encode(toWire(machine)).finish().length },
      );
      return Promise.resolve({ machines: page.items.map(toWire), nextPageToken: page.nextToken });
    },
    getMachine: (request) => Promise.resolve(toWire(machines.require(request.machine))),
    watchMachines: async function* (_request, { signal }): AsyncGenerator<WatchMachinesResponse> {
      const source = { changes: machines.changes, ids: () => machines.ids(), get: (id: string) => machines.get(id) };
      for await (const { snapshot, values, removed } of watchValues(source, { signal, batch: MACHINES_PER_FRAME })) {
        yield { snapshot, machines: values.map(toWire), removed: [...removed] };
      }
    },
    updateMachine: async (request) => {
      const { record } = machines.require(request.machine);
      await machines.changeLabels(record.id, request.setLabels, request.removeLabels);
      await labelsChanged(record.id);
      return toWire(machines.require(record.id));
    },
    removeMachine: async (request, { principal }) => {
      await removeMachine(machines.require(request.machine), describePrincipal(principal));
      return {};
    },
  };
}

function instanceHandlers({
  machines,
  instances,
  directory,
  requireModuleName,
}: FleetParts): Pick<FleetHandlers, 'listInstances' | 'getInstance' | 'watchInstances'> {
  const toWire = (view: InstanceView): Instance => toWireInstanceView(view, machines.get(view.machine));
  const order = ({ report, machine }: InstanceView): string =>
    `${report.service}\n${machines.get(machine)?.record.name ?? ''}\n${machine}`;
  return {
    listInstances: (request) => {
      const selector = selectorOf(request.selector, machines);
      if (request.service !== '') requireService(directory, request.service);
      if (request.moduleVersion !== '' && request.module === '') {
        throw new MusterError('invalid', 'module_version goes with module: say of which', { reason: 'MODULE' });
      }
      const wanted = instances
        .list()
        .filter(({ report }) => request.service === '' || report.service === request.service)
        .filter(({ machine }) => selected(selector, machines.get(machine)?.record))
        .filter(({ report }) => runs(report, request));
      if (request.module !== '' && wanted.length === 0) requireModuleName(request.module);
      const page = pageOf(
        wanted,
        { size: request.pageSize, token: request.pageToken },
        { keyOf: order, weightOf: (view) => Instance.encode(toWire(view)).finish().length },
      );
      return Promise.resolve({ instances: page.items.map(toWire), nextPageToken: page.nextToken });
    },
    getInstance: (request) => {
      const machine = machines.require(request.machine);
      return Promise.resolve(toWire(instances.require(machine, request.service)));
    },
    watchInstances: async function* (request, { signal }): AsyncGenerator<WatchInstancesResponse> {
      if (request.service !== '') requireService(directory, request.service);
      const wanted = (id: string): InstanceView | undefined => {
        const view = instances.get(id);
        return request.service === '' || view?.report.service === request.service ? view : undefined;
      };
      const source = { changes: instances.changes, ids: () => instances.ids(), get: wanted };
      for await (const { snapshot, values, removed } of watchValues(source, { signal, batch: INSTANCES_PER_FRAME })) {
        yield { snapshot, instances: values.map(toWire), removed: removed.map(keyOf) };
      }
    },
  };
}

function keyOf(id: string): { machine: string; service: string } {
  const [machine = '', service = ''] = id.split('/');
  return { machine, service };
}

/** @throws not_found naming the nearest service */
export function requireService(directory: Directory, service: string): void {
  const known = directory.serviceNames();
  if (known.includes(service)) return;
  throw unknownService(service, known);
}
