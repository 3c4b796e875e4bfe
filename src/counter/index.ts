/** `muster/counter`: what a service counts. */
export { Counter, CounterHandle } from './counter.js';
export { flush } from './default.js';
export { Gauge, GaugeHandle } from './gauge.js';
export { Registry, type FamilyOptions } from './registry.js';
