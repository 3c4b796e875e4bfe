import { MusterError } from '../kit/errors.js';
import type { AnyMethod, CallContext, Definition, Handlers } from './types.js';

/** A handler whose message types were checked when it was implemented. */
export type ErasedHandler = (input: unknown, context: CallContext) => unknown;

export interface ImplementedMethod {
  /** `/muster.v1.Center/ListMachines` */
  readonly path: string;
  readonly definition: AnyMethod;
  readonly handler: ErasedHandler;
}

/** A service and the handlers of all its methods. */
export interface Implementation {
  /** Full name, for example `muster.v1.Center`. */
  readonly service: string;
  readonly methods: readonly ImplementedMethod[];
}

function isHandler(value: unknown): value is ErasedHandler {
  return typeof value === 'function';
}

/**
 * Joins a service's definition with its handlers; the compiler sees that none is missing.
 * @throws internal when the definition is empty or a handler is missing at run time
 */
export function implement<D extends Definition>(definition: D, handlers: Handlers<D>): Implementation {
  const methods = Object.entries(definition).map(([name, method]): ImplementedMethod => {
    const handler: unknown = Reflect.get(handlers, name);
    if (!isHandler(handler)) throw new MusterError('internal', `there is no handler for ${method.path}`);
    return {
      path: method.path,
      definition: method,
      handler: (input, context) => handler.call(handlers, input, context),
    };
  });
  const [first] = methods;
  if (!first) throw new MusterError('internal', 'a service without methods cannot be served');
  return { service: first.path.split('/')[1] ?? '', methods };
}
