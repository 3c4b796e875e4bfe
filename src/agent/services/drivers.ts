import type { Driver } from '../../model/instance.js';
import type { ServiceDriver } from './driver.js';
import { OfferedSocketDriver } from './offered-socket.js';
import { ProcessDriver, type ProcessDriverOptions } from './process-driver.js';
import type { InstanceRecords } from './records.js';
import { SystemdDriver } from './systemd-driver.js';
import { SysvDriver } from './sysv-driver.js';

export interface DriversOptions extends Omit<ProcessDriverOptions, 'records'> {
  /** How systemctl is called. */
  readonly systemctl?: readonly string[];
}

/** The three drivers, for Services. */
export function createDrivers(options: DriversOptions): (records: InstanceRecords) => Record<Driver, ServiceDriver> {
  const { clock, systemctl } = options;
  return (records) => ({
    process: new ProcessDriver({ ...options, records }),
    systemd: new OfferedSocketDriver(new SystemdDriver({ clock, ...(systemctl ? { systemctl } : {}) }), options),
    sysv: new OfferedSocketDriver(new SysvDriver({ clock }), options),
  });
}
