import { readFile } from 'node:fs/promises';
import { after, before, describe } from 'node:test';
import { unless } from '../../support/debian.js';
import { Site } from '../../support/site.js';
import { Systemd } from '../../support/systemd.js';
import { placeNginx, steersNginx, type Nginx } from './nginx.js';

/** Debian's unit as it is, but for its place in the boot of a whole machine, which does not take place here. */
async function debianUnit(): Promise<string> {
  const unit = await readFile('/lib/systemd/system/nginx.service', 'utf8');
  return unit.replace(/^(After|Wants)=.*$/gm, '').replace('[Unit]', '[Unit]\nDefaultDependencies=no');
}

describe(
  "Debian's nginx under real systemd",
  { skip: unless('root', 'nginx', 'systemd', 'unshare', 'nsenter', 'curl') },
  () => {
    let systemd: Systemd;
    let nginx: Nginx;

    before(async () => {
      systemd = await Systemd.start({ 'nginx.service': await debianUnit() });
      const site = await Site.start();
      const agent = await site.addAgent('web-1', {}, systemd);
      nginx = await placeNginx(site, agent, {
        driver: 'systemd',
        prefix: systemd.prefix,
        run: (...command) => systemd.run(...command),
        byHand: (action) => ['systemctl', action, 'nginx'],
      });
    });

    after(async () => {
      await nginx.site.close();
      await systemd.close();
    });

    steersNginx(() => nginx);
  },
);
