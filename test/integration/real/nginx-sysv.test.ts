import { after, before, describe } from 'node:test';
import { unless } from '../../support/debian.js';
import { PrivateMounts } from '../../support/namespaces.js';
import { Site } from '../../support/site.js';
import { placeNginx, steersNginx, type Nginx } from './nginx.js';

describe("Debian's nginx under driver sysv", { skip: unless('root', 'nginx', 'unshare', 'nsenter', 'curl') }, () => {
  let mounts: PrivateMounts;
  let nginx: Nginx;

  before(async () => {
    mounts = await PrivateMounts.create();
    const site = await Site.start();
    const agent = await site.addAgent('web-1', {}, mounts);
    nginx = await placeNginx(site, agent, {
      driver: 'sysv',
      prefix: mounts.prefix,
      run: (...command) => mounts.run(...command),
      byHand: (action) => ['service', 'nginx', action],
    });
  });

  after(async () => {
    await nginx.site.close();
    await mounts.close();
  });

  steersNginx(() => nginx);
});
